"""Where a stage's examples come from, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.registry import Registry

# A config's `open(seed: int) -> Source`.
SOURCES = Registry("data")


class Source(ABC):
    """Examples of a training; a batch is a function of (seed, step), so a run can resume.

    Attributes:
        fingerprint: sha256 of what is trained on and chosen by, where it may change between two
            commands; empty for what packages hold.
    """

    fingerprint: str = ""

    @abstractmethod
    def batch(self, size: int, step: int) -> list[Example]:
        """Training examples of one step."""

    @abstractmethod
    def validation(self, size: int) -> list[Example]:
        """The first `size` of a fixed set that is not trained on."""

    @abstractmethod
    def questions(self, split: str) -> list[Example]:
        """Questions to evaluate on: of `validation` or `test`.

        Raises:
            ConfigError: another split, or a source that asks nothing.
        """

    @abstractmethod
    def texts(self) -> list[str]:
        """All contexts of the training split, for what is fitted on them."""

    def specimens(self) -> list[Example]:
        """Training examples whose lengths are checked: all where they are fixed, else a few."""
        return self.batch(8, 0)


def check_split(split: str) -> None:
    """Raise ConfigError unless `split` is one that may be evaluated on."""
    if split not in ("validation", "test"):
        raise ConfigError(f"split: expected validation or test, got {split!r}")
