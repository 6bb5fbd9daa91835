"""PCA of the reader's embeddings: every token keeps a vector, in fewer numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.basis import Basis
from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.prefix import from_embeddings, replayed


@ROWS.register("pca")
@dataclass(frozen=True)
class PCARowConfig(RowConfig):
    """The context's embeddings, projected onto a fitted basis and back.

    There are as many slots as tokens: it is the width that shrinks, to the basis's directions.
    """

    def build(self, setting: Setting) -> PCARow:
        """Build it.

        Raises:
            ConfigError: no basis, or one of another width.
        """
        if setting.basis is None:
            raise ConfigError("row pca: expected a fitted basis, got none")
        if setting.basis.mean.shape[0] != setting.reader.width:
            raise ConfigError(
                f"row pca: expected a basis of width {setting.reader.width}, "
                f"got {setting.basis.mean.shape[0]}"
            )
        return PCARow(setting, setting.basis)


class PCARow(Row):
    """One vector a token."""

    def __init__(self, setting: Setting, basis: Basis) -> None:
        super().__init__(setting)
        self.basis = basis

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        begin = time.perf_counter()
        plain = replayed(setting.reader, [setting.contexts[index] for index in indices])
        back = self.basis.restored(self.basis.projected(plain.embeds))
        seconds = time.perf_counter() - begin
        return PrefixPrompts(
            setting.reader,
            from_embeddings(back, plain.mask),
            self.endings(indices),
            encode_seconds=seconds,
        )
