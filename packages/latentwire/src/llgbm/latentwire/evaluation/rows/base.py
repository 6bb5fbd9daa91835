"""What every row of the table is, where rows are registered, and what they are built with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.basis import Basis
from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.examples import Example
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.registry import Registry
from llgbm.latentwire.slots import SlotsConfig

ROWS = Registry("row")

# Latents of one text [m, z] as they are after packing and unpacking.
Scheme = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Setting:
    """What the rows of one table share.

    Attributes:
        reader: frozen.
        examples: that are asked, all of them.
        compressor: being evaluated; None where only rows without one are asked for.
        slots: the budget where there is no compressor.
        training: contexts of the training split, for the row `mean`.
        basis: for the row `pca`.
        schemes: for the row `unpacked`, by name.
        seed: of what rows draw.
    """

    reader: Reader
    examples: tuple[Example, ...]
    compressor: Compressor | None = None
    slots: SlotsConfig = field(default_factory=SlotsConfig)
    training: tuple[str, ...] = ()
    basis: Basis | None = None
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    seed: int = 0

    @property
    def budget(self) -> SlotsConfig:
        """How many slots a context gets."""
        return self.slots if self.compressor is None else self.compressor.config.slots

    @cached_property
    def contexts(self) -> list[list[int]]:
        """The reader's token ids of every context, nothing special added."""
        return [self.reader.tokens(example.context) for example in self.examples]

    @cached_property
    def endings(self) -> list[list[int]]:
        """Token ids of every ending."""
        return [self.reader.tokens(example.ending) for example in self.examples]

    @cached_property
    def budgets(self) -> list[int]:
        """M of every context: the slots that the compressor gives it, or `slots` would."""
        tokens = torch.tensor([max(1, len(ids)) for ids in self.contexts])
        return self.budget.counts(tokens).tolist()

    def needed_compressor(self, row: str) -> Compressor:
        """Return the compressor.

        Raises:
            ConfigError: there is none.
        """
        if self.compressor is None:
            raise ConfigError(f"row {row}: expected a compressor, got none")
        return self.compressor


class Row(ABC):
    """One line of the table: what the reader is given in place of each context."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def prompts(self, indices: Sequence[int]) -> Prompts:
        """What the reader is given for a batch of the setting's examples.

        Must be the same for an example whatever else is in its batch.
        """

    def endings(self, indices: Sequence[int]) -> list[list[int]]:
        """Token ids of the endings of a batch."""
        return [self.setting.endings[index] for index in indices]


@dataclass(frozen=True)
class RowConfig(ABC):
    """What every row's config dataclass is.

    Attributes:
        bare: whether the reader alone is at work; such rows run before all others (rule 9).
    """

    name: ClassVar[str]
    bare: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """What the row is called in a table."""
        return self.name

    def depends_on(self, setting: Setting) -> tuple[Hashable, ...] | None:
        """All that answers depend on beside reader, examples and decoding.

        None where a row is to be measured in every evaluation.
        """
        return None

    @abstractmethod
    def build(self, setting: Setting) -> Row:
        """Build it.

        Raises:
            ConfigError: something that the row needs is not there.
        """
