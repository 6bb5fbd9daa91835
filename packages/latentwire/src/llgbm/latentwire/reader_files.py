"""A reader as a folder that `load_reader` and any other transformers user takes."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.quiet import quiet_transformers
from llgbm.latentwire.reader import Reader


def save_reader(reader: Reader, folder: Path) -> None:
    """Write weights, config and tokenizer into `folder`, which exists."""
    with quiet_transformers():
        reader.model.save_pretrained(folder)
        reader.tokenizer.save_pretrained(folder)
