"""Embedding replay through the compressor's adapter: what the adapter alone costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import from_embeddings, replayed


@ROWS.register("replay_adapter")
@dataclass(frozen=True)
class ReplayAdapterRowConfig(RowConfig):
    """The context's embeddings as if they were latents: adapter, transform and calibration."""

    bare: ClassVar[bool] = False

    def build(self, setting: Setting) -> ReplayAdapterRow:
        """Build it.

        Raises:
            ConfigError: no compressor, one without an adapter, or latents of another width than
                the reader's.
        """
        compressor = setting.needed_compressor("replay_adapter")
        if not compressor.port.way.reads_embeddings:
            raise ConfigError(
                "row replay_adapter: expected a way in that reads embeddings, "
                f"got {compressor.config.way.name}"
            )
        if compressor.width != setting.reader.width:
            raise ConfigError(
                f"row replay_adapter: expected latents of width {setting.reader.width}, "
                f"got {compressor.width}"
            )
        return ReplayAdapterRow(setting)


class ReplayAdapterRow(Row):
    """One vector a token, seen through the adapter."""

    @torch.no_grad()
    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        compressor = setting.needed_compressor("replay_adapter")
        begin = time.perf_counter()
        plain = replayed(setting.reader, [setting.contexts[index] for index in indices])
        embeds = compressor.port.embeds(Latents(plain.embeds, plain.mask))
        assert embeds is not None
        seconds = time.perf_counter() - begin
        return PrefixPrompts(
            setting.reader,
            from_embeddings(embeds, plain.mask),
            self.endings(indices),
            encode_seconds=seconds,
        )
