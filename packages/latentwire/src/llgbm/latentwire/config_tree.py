"""Configs as trees of plain values: read from files, changed by dot overrides, swept over lists.

A config dataclass may hold other dataclasses, leaves, and registered parts: a field with a
`registry` in its metadata holds `{name = "...", ...}`, and with `many` a list of such.
"""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import pydantic

from llgbm.deltas.errors import LLGBMError
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.registry import unknown

T = TypeVar("T")
Tree = dict[str, Any]
# Beyond these no setting means anything, and sums of them leave float32 and int64.
LARGEST_WHOLE, LARGEST_REAL = 2**32, 1e9


def structure(config: type[T], tree: Mapping[str, Any], where: str = "") -> T:
    """Make a config dataclass of a tree; keys that are absent keep their defaults.

    Args:
        config: the dataclass.
        tree: plain values by field name.
        where: path of the tree in the whole, for messages.

    Raises:
        ConfigError: a key that does not exist (the nearest is named), a value of another type,
            a part that does not exist, or a value that the dataclass refuses.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where or config.__name__}: expected a table, got {tree!r}")
    hints = get_type_hints(config)
    known = {each.name: each for each in fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(f"{_joined(where, key)}: {unknown(key, known)}")
        path, metadata = _joined(where, key), known[key].metadata
        if "registry" not in metadata:
            values[key] = _value(hints[key], value, path)
        elif metadata.get("many"):
            if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
                raise ConfigError(f"{path}: expected a list of parts, got {value!r}")
            values[key] = tuple(
                _part(metadata["registry"], each, f"{path}[{place}]")
                for place, each in enumerate(value)
            )
        else:
            values[key] = _part(metadata["registry"], value, path)
    try:
        return config(**values)
    except LLGBMError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error
    except TypeError as error:
        raise ConfigError(f"{where or config.__name__}: {error}") from error


def as_tree(config: Any) -> Tree:
    """The tree that `structure` makes the same config of; every value is plain JSON."""
    tree: Tree = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if "registry" not in each.metadata:
            tree[each.name] = _plain(value)
        elif each.metadata.get("many"):
            tree[each.name] = [{"name": part.name, **as_tree(part)} for part in value]
        else:
            tree[each.name] = {"name": value.name, **as_tree(value)}
    return tree


def read_tree(path: Path) -> Tree:
    """Read a .toml or .json file.

    Raises:
        ConfigError: missing, malformed, or no table.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a TOML or JSON file, got: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a table, got {type(tree).__name__}")
    _require_plain(tree, str(path))
    return tree


def overridden(tree: Mapping[str, Any], overrides: Sequence[str]) -> Tree:
    """A tree changed by `path.to.key=value` words; values are written as in TOML or bare.

    Naming another part (`encoder.name=byte`) drops what the old one was set to.

    Raises:
        ConfigError: a word without `=`, or a path through something that is no table.
    """
    changed: Tree = json.loads(json.dumps(tree))
    for word in overrides:
        path, equals, text = word.partition("=")
        if not equals or not path:
            raise ConfigError(f"override: expected key=value, got {word!r}")
        value = parsed(text)
        _require_plain(value, f"override {word!r}")
        _set(changed, path.split("."), value, word)
    return changed


def swept(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of overrides whose values are lists divided by commas: `a.b=1,2`."""
    choices = []
    for word in overrides:
        path, _, text = word.partition("=")
        choices.append([f"{path}={value}" for value in _top_level(text)])
    return [list(combination) for combination in itertools.product(*choices)]


def parsed(text: str) -> Any:
    """A value as TOML reads it; what TOML does not read is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _set(tree: Tree, path: list[str], value: Any, word: str) -> None:
    node: Any = tree
    for key in path[:-1]:
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict):
            node = node.setdefault(key, {})
        else:
            node = None
        if not isinstance(node, dict | list):
            raise ConfigError(f"override {word!r}: {key!r} holds no table")
    last = path[-1]
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise ConfigError(f"override {word!r}: expected 0 to {len(node) - 1}, got {last!r}")
        node[int(last)] = value
    elif last == "name" and node.get("name") != value:
        node.clear()
        node["name"] = value
    else:
        node[last] = value


def _part(registry: Any, tree: Any, where: str) -> Any:
    if isinstance(tree, str):
        tree = {"name": tree}
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: expected a part's name or table, got {tree!r}")
    if "name" not in tree:
        raise ConfigError(f"{where}.name: expected one of {', '.join(registry)}, got none")
    rest = {key: value for key, value in tree.items() if key != "name"}
    return structure(registry[str(tree["name"])], rest, where)


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return structure(hint, value, where)  # type: ignore[arg-type]
    inner = get_args(hint)
    if get_origin(hint) is tuple and is_dataclass(inner[0]):
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list of tables, got {value!r}")
        return tuple(_value(inner[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    try:
        # Neither is 4.0 a count nor "no" a switch, and true is no number.
        adapter = pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(strict=True))
        found = adapter.validate_json(json.dumps(value))
    except (pydantic.ValidationError, ValueError) as error:
        raise ConfigError(f"{where}: expected {_words(hint)}, got {_short(value)}") from error
    _require_bounded(found, where)
    return found


def _require_bounded(value: Any, where: str) -> None:
    """Refuse NaN, Inf and numbers so large that nothing can be computed with them."""
    if isinstance(value, tuple | list):
        for place, each in enumerate(value):
            _require_bounded(each, f"{where}[{place}]")
    elif isinstance(value, float) and not abs(value) <= LARGEST_REAL:
        got = f"{value:g}"
        finite = "" if math.isfinite(value) else "finite and "
        raise ConfigError(f"{where}: expected a number {finite}at most {LARGEST_REAL:g}, got {got}")
    elif isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ConfigError(
            f"{where}: expected a whole number of at most {LARGEST_WHOLE}, got {_short(value)}"
        )


def _require_plain(value: Any, where: str) -> None:
    """Refuse dates and times, which TOML knows and no setting takes."""
    if isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            _require_plain(each, where)
    elif not isinstance(value, str | int | float | None):
        raise ConfigError(f"{where}: expected text, numbers and switches, got {value}")


def _short(value: Any) -> str:
    """A value as a message shows it."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 120 else f"{text[:120]}..."


def _words(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, str(hint).replace("typing.", ""))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return as_tree(value)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _joined(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _top_level(text: str) -> list[str]:
    """Pieces between commas that stand in no bracket and no quotes."""
    pieces, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if character == "," and not depth and not quote:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces
