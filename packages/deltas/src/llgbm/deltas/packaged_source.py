"""What a packaged task is made of, whatever file format it lies in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from llgbm.deltas.task import Example

Read = Callable[[Mapping[str, Any]], Example]


class PackagedSource(Protocol):
    """Where a packaged task lies, and how a doc of it is read."""

    @property
    def family(self) -> str:
        """Family of the task."""

    @property
    def format(self) -> str:
        """What its files should be, in words."""

    @property
    def read(self) -> Read:
        """Turns a doc into an example, asked as its evaluation asks it."""

    def paths(self, name: str) -> Sequence[Path]:
        """Files of the task called `name`.

        Raises:
            MissingPackageError: the package with the data is not installed.
        """

    def docs(self, path: Path) -> Iterable[Mapping[str, Any]]:
        """Docs of one file, repeated ones included."""


def continue_with(query: str, choices: Iterable[str], gold: int) -> Example:
    """Return an example whose choices each follow the query after a space, no text twice.

    Raises:
        ValueError: `gold` is no index of `choices`.
    """
    texts = [" " + choice for choice in choices]
    if not 0 <= gold < len(texts):
        raise ValueError(f"gold {gold} of {len(texts)} choices")
    distinct = tuple(dict.fromkeys(texts))
    return Example(query, distinct, distinct.index(texts[gold]))
