"""What a training for two readers is."""

from __future__ import annotations

from dataclasses import dataclass, field

from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.two_readers.compressor import SharedCompressorConfig


@dataclass(frozen=True)
class TwoReadersConfig(TrainConfig):
    """A training as for one reader, the first, and beside it the second.

    `start_from` is a run of the first reader alone: encoder, pooler and port are taken over.

    Args:
        second: the second reader: a base model's name, the folder of a tuned reader, or a hub id.
        compressor: its parts.
    """

    second: str = ""
    compressor: SharedCompressorConfig = field(default_factory=SharedCompressorConfig)
