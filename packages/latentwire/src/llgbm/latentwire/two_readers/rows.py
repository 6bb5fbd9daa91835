"""Rows of one reader's table: budgets by what is sent, swapped slots, a compressor of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.derangement import other_contexts
from llgbm.latentwire.evaluation.rows.base import RowConfig, Setting
from llgbm.latentwire.evaluation.rows.budget_question_kept import BudgetQuestionKeptRowConfig
from llgbm.latentwire.evaluation.rows.latent import LatentRow
from llgbm.latentwire.evaluation.rows.latents import LatentsRow
from llgbm.latentwire.evaluation.rows.tokens import TokenRow
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.training.files import load_compressor
from llgbm.latentwire.two_readers.layout import SHARED
from llgbm.latentwire.two_readers.view import View

PARTS = (SHARED, "private", "both")


def view_of(setting: Setting, row: str) -> View:
    """The setting's compressor, one reader's view of a shared one.

    Raises:
        ConfigError: none, or one for a single reader.
    """
    found = setting.needed_compressor(row)
    if not isinstance(found, View):
        raise ConfigError(f"row {row}: expected a compressor for two readers, got one for one")
    return found


@dataclass(frozen=True)
class SentBudgetRowConfig(BudgetQuestionKeptRowConfig):
    """The first M of the reader's own tokens and the question, M being all slots that are sent.

    Slots are numbered by the first reader's tokens, whoever reads; private slots of the other
    reader count too, since they travel with the rest.
    """

    def build(self, setting: Setting) -> SentBudgetRow:  # type: ignore[override]
        """Build it.

        Raises:
            ConfigError: no compressor for two readers.
        """
        return SentBudgetRow(setting)


class SentBudgetRow(TokenRow):
    """M tokens of the context are kept, and all of the ending."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        shared = view_of(setting, SentBudgetRowConfig.name).shared
        self.sent = shared.counts([example.context for example in setting.examples]).tolist()

    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """See `TokenRow.kept`."""
        context = self.setting.contexts[index][: self.sent[index]]
        return [*context, *self.setting.endings[index]], len(context)


@dataclass(frozen=True)
class SwappedRowConfig(RowConfig):
    """A part of each context's slots replaced by that of a context of another document.

    Args:
        part: `shared`, `private`, or `both`: what is left of good latents that are wrong.
    """

    part: Literal["shared", "private", "both"] = "shared"
    name: ClassVar[str] = "swapped"
    bare: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"swapped.part: expected one of {PARTS}, got {self.part!r}")

    @property
    def label(self) -> str:
        """See `RowConfig.label`."""
        return f"{self.part}_swapped"

    def build(self, setting: Setting) -> SwappedRow:
        """Build it.

        Raises:
            ConfigError: no compressor for two readers.
            PromptError: all examples are of one document.
        """
        return SwappedRow(setting, self)


class SwappedRow(LatentsRow):
    """The other context is given as many slots as the context has, so that parts fit."""

    def __init__(self, setting: Setting, config: SwappedRowConfig) -> None:
        super().__init__(setting, config.label)
        self.part = config.part
        self.view = view_of(setting, config.label)
        self.others = other_contexts(setting.examples, setting.seed)

    def latents(self, indices: Sequence[int]) -> Latents:
        """See `LatentsRow.latents`."""
        shared, layout = self.view.shared, self.view.shared.config.layout
        texts = [self.setting.examples[index].context for index in indices]
        counts = shared.counts(texts)
        latents = shared.encode([self.others[index] for index in indices], counts)
        if self.part != "both":
            latents = layout.swapped(shared.encode(texts, counts), latents, self.part)
        return self.view.seen(latents)


@dataclass(frozen=True)
class SingleRowConfig(RowConfig):
    """Latents of a compressor that was trained for this reader alone.

    Args:
        run: folder of its training.
    """

    run: str = ""
    name: ClassVar[str] = "single"
    bare: ClassVar[bool] = False

    def build(self, setting: Setting) -> LatentRow:
        """Load it.

        Raises:
            RunError: no run there, or one for another reader.
        """
        single, _ = load_compressor(Path(self.run), setting.reader)
        return LatentRow(replace(setting, compressor=single), self.name)
