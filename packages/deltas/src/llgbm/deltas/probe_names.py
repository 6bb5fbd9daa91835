"""Probe sets by name or file, and sets joined by +, for command lines."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.probes import (
    DOMAINS,
    GENERIC_COUNTS,
    ProbeSet,
    create_domain_probes,
    create_generic_probes,
)

_GENERIC = {create_generic_probes(count).name: count for count in GENERIC_COUNTS}
PROBE_NAMES = (*_GENERIC, *DOMAINS)


def named_probes(name: str) -> ProbeSet:
    """Return the probe set that a command line names.

    Args:
        name: `generic`, `generic-10`, `generic-20`, a domain, or a text file with one probe a
            line; or several of these joined by `+`, such as `generic+math`, whose probes then
            come in that order.

    Raises:
        TaskError: an unknown name; a missing or empty file, one that is not UTF-8 or has an empty
            probe; or a probe that stands twice in a joined set.
    """
    parts = [name] if _is_file(name) else name.split("+")
    sets = [_named(part) for part in parts]
    if len(sets) == 1:
        return sets[0]
    texts = tuple(text for probes in sets for text in probes.texts)
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise TaskError(mismatch("probes", name, "each probe once", f"{twice[:40]!r} twice"))
    return ProbeSet(texts, name="+".join(probes.name for probes in sets))


def _is_file(name: str) -> bool:
    """Whether the whole name is a file: its path may hold a +."""
    return Path(name).suffix == ".txt" and Path(name).expanduser().is_file()


def _named(name: str) -> ProbeSet:
    if name in _GENERIC:
        return create_generic_probes(_GENERIC[name])
    if name in DOMAINS:
        return create_domain_probes(name)
    path = Path(name).expanduser()
    if path.suffix != ".txt":
        raise TaskError(
            f"probes: expected generic, generic-10, generic-20, one of {DOMAINS} or a .txt file, "
            f"or several joined by +, got {name!r}"
        )
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise TaskError(f"{path}: not found") from error
    except UnicodeDecodeError as error:
        got = f"byte {error.start} that is not"
        raise TaskError(mismatch(path, "text", "UTF-8", got)) from error
    if not lines:
        raise TaskError(mismatch(path, "probes", "one text a line", "an empty file"))
    # A file has one probe a line, so a line break inside a probe is written as \n.
    texts = tuple(line.replace("\\n", "\n") for line in lines)
    empty = [line for line, text in zip(lines, texts, strict=True) if not text.strip()]
    if empty:
        raise TaskError(mismatch(path, "probes", "one text a line", f"{empty[0]!r}, line breaks"))
    return ProbeSet(texts, name=path.stem)
