"""A shared compressor as files, bound to both of its readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.module_files import check_pair, fill_module, read_module_config, write_module
from llgbm.latentwire.config_tree import as_tree, structure
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.training.files import TENSORS, RunFiles
from llgbm.latentwire.two_readers.compressor import SharedCompressor, SharedCompressorConfig
from llgbm.latentwire.two_readers.config import TwoReadersConfig
from llgbm.latentwire.two_readers.layout import FIRST, READERS, SECOND

COMMAND = "llgbm-latentwire two-readers"


def has_two_readers(files: RunFiles) -> bool:
    """Whether a folder holds a run for two readers.

    Raises:
        RunError: malformed settings.
    """
    settings = read_json(files.settings, RunError) if files.settings.exists() else {}
    return isinstance(settings, dict) and bool(settings.get("second"))


def read_settings(files: RunFiles) -> TwoReadersConfig:
    """Settings of a run for two readers.

    Raises:
        RunError: no run there.
        ConfigError: a run of another kind.
    """
    if not files.settings.exists():
        raise RunError(f"{files.settings}: not found: run `{COMMAND}` first")
    return structure(TwoReadersConfig, read_json(files.settings, RunError))


def save_shared(folder: Path, compressor: SharedCompressor, more: dict[str, Any]) -> None:
    """Write a whole shared compressor: every part's state, its config, and both readers.

    Args:
        folder: made or replaced file by file.
        compressor: to write.
        more: JSON values worth keeping beside it.
    """
    metadata = {
        "readers": {
            name: {"name": reader.name, "fingerprint": reader.fingerprint}
            for name, reader in compressor.readers.items()
        },
        "trained": len(compressor.trained()),
        **more,
    }
    write_module(compressor, folder, TENSORS, {"compressor": as_tree(compressor.config)}, metadata)


def load_shared(
    folder: Path, first: Reader | None = None, second: Reader | None = None
) -> SharedCompressor:
    """Load a shared compressor with the readers that it was trained for.

    Args:
        folder: of a run or of its compressor.
        first: already loaded; loaded by the name that was noted where None.
        second: likewise.

    Raises:
        RunError: missing, half-written, parts or counts that do not fit, or other readers.
        ConfigError: a compressor of another kind.
    """
    inner = RunFiles(folder).compressor
    folder = inner if inner.exists() else folder
    description, metadata = read_module_config(folder, COMMAND)
    check_pair(folder / TENSORS, description)
    noted = metadata.get("readers")
    if not isinstance(noted, dict) or set(noted) != set(READERS):
        raise RunError(mismatch(folder, "readers", list(READERS), noted))
    readers = {}
    for name, given in zip(READERS, (first, second), strict=True):
        reader = given or load_reader(str(noted[name]["name"]))
        wanted = str(noted[name]["fingerprint"])
        if wanted != reader.fingerprint:
            what = f"{name} reader's weights"
            raise RunError(mismatch(folder, what, wanted[:12], reader.fingerprint[:12]))
        readers[name] = reader
    config = structure(SharedCompressorConfig, description.get("compressor", {}))
    compressor = SharedCompressor(config, readers[FIRST], readers[SECOND])
    trained = len(compressor.trained())
    if metadata.get("trained") != trained:
        raise RunError(mismatch(folder, "trained tensors", metadata.get("trained"), trained))
    fill_module(compressor, folder / TENSORS)
    return compressor.eval()
