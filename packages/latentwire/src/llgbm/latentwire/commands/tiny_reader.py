"""`llgbm-latentwire tiny-reader`: a reader for a first experiment, taught in less than a minute."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from llgbm.deltas import atomic
from llgbm.latentwire.reader_files import check_replaceable, save_reader
from llgbm.latentwire.training.tiny_reader import TinyReaderConfig, teach_tiny_reader


@dataclass(frozen=True)
class TinyReaderCommandConfig:
    """Teach a tiny reader key-value retrieval from text and write it as a transformers folder.

    Args:
        out: folder, which `reader=` of a training then names.
        teaching: sizes and steps.
        overwrite: make it anew where `out` exists.
    """

    out: Positional[Path]
    teaching: OmitArgPrefixes[TinyReaderConfig] = field(default_factory=TinyReaderConfig)
    overwrite: bool = False


def tiny_reader(config: TinyReaderCommandConfig) -> Path:
    """Teach and write.

    Raises:
        RunError: the folder exists, or holds what is no reader's.
    """
    check_replaceable(config.out, config.overwrite)
    reader, accuracy = teach_tiny_reader(config.teaching)
    with atomic.folder(config.out) as folder:
        save_reader(reader, folder)
    print(f"{config.out}: {accuracy:.1%} of the values right from text at the end of its training")
    return config.out
