"""A reader as a folder that `load_reader` and any other transformers user takes."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.errors import RunError
from llgbm.deltas.quiet import quiet_transformers
from llgbm.latentwire.reader import Reader

# What `save_reader` and the tuning write.
OWN = (
    *("config.json", "generation_config.json", "tuning.json"),
    *("model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.*"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
)


def check_replaceable(folder: Path, overwrite: bool) -> None:
    """Refuse to write a reader where something else would be lost.

    Args:
        folder: of the reader.
        overwrite: whether a reader that is there may go.

    Raises:
        RunError: it exists and is not to be overwritten, or holds what is no reader's.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise RunError(f"{folder}: exists; use it as it is, or give --overwrite")
    if not folder.is_dir():
        raise RunError(f"{folder}: expected a reader's folder to overwrite, got a file")
    held = sorted(path.name for path in folder.iterdir())
    if held and "config.json" not in held:
        raise RunError(f"{folder}: expected a reader to overwrite, got no config.json")
    foreign = [name for name in held if not _is_own(folder / name)]
    if foreign:
        raise RunError(f"{folder}: {foreign[0]}: no file of a reader: move it before --overwrite")


def _is_own(path: Path) -> bool:
    """Whether a file is named as those of a reader are."""
    return path.is_file() and any(path.match(pattern) for pattern in OWN)


def save_reader(reader: Reader, folder: Path) -> None:
    """Write weights, config and tokenizer into `folder`, which exists."""
    with quiet_transformers():
        reader.model.save_pretrained(folder)
        reader.tokenizer.save_pretrained(folder)
