"""Parts by name: every kind of part has a registry of the dataclasses that configure it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from llgbm.latentwire.errors import ConfigError

C = TypeVar("C")


class Registry(Mapping[str, type[Any]]):
    """Config dataclasses of one kind of part, by the name that configs use.

    A config's method `build` makes the part; the kind's module says what it is called with.

    Args:
        kind: what a part is called in messages and in a compressor's config.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._configs: dict[str, type[Any]] = {}

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Class decorator: make a config dataclass known as `name`."""

        def add(config: type[C]) -> type[C]:
            if name in self._configs:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._configs[name] = config
            config.name = name  # type: ignore[attr-defined]
            return config

        return add

    def __getitem__(self, name: str) -> type[Any]:
        """Return the config dataclass of a part.

        Raises:
            ConfigError: no such part; names the nearest.
        """
        if name not in self._configs:
            raise ConfigError(f"{self.kind}: {unknown(name, self._configs)}")
        return self._configs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._configs)

    def __len__(self) -> int:
        return len(self._configs)


def unknown(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return "expected one of ..., got NAME", with the nearest name where one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"expected one of {', '.join(known)}, got {name!r}{hint}"
