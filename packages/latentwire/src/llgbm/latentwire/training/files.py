"""Files of a run: settings, the best compressor, metrics, and the state that it resumes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.module_files import check_pair, fill_module, read_module_config, write_module
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.config_tree import as_tree, structure
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.training.config import TrainConfig

TENSORS = "compressor.safetensors"
fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
# Files of a run, in its folders and in itself.
INNER = (TENSORS, "config.json", "state.safetensors", "progress.json")
OUTER = (
    "finished.json",
    "data.json",
    "metrics.jsonl",
    "diagnostics.jsonl",
    "evaluation.json",
    "evaluation.jsonl",
    "evaluation_*.json",
    "evaluation_*.jsonl",
    "two_readers.json",
    "report.html",
    "training.json",
)


@dataclass(frozen=True)
class RunFiles:
    """Paths inside a run's folder."""

    folder: Path

    @property
    def settings(self) -> Path:
        """The training's config as JSON."""
        return self.folder / "training.json"

    @property
    def data(self) -> Path:
        """Fingerprints of data that is not a package's own, by stage."""
        return self.folder / "data.json"

    @property
    def compressor(self) -> Path:
        """Folder of the best compressor."""
        return self.folder / "compressor"

    @property
    def metrics(self) -> Path:
        """One line a step or validation."""
        return self.folder / "metrics.jsonl"

    @property
    def diagnostics(self) -> Path:
        """One line a look inside."""
        return self.folder / "diagnostics.jsonl"

    @property
    def state(self) -> Path:
        """Tensors that an interrupted run goes on from."""
        return self.folder / "state" / "state.safetensors"

    @property
    def progress(self) -> Path:
        """What belongs to the state and is no tensor."""
        return self.folder / "state" / "progress.json"

    @property
    def finished(self) -> Path:
        """Written at the end: steps, seconds, best."""
        return self.folder / "finished.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the block no other process trains here, where the system can tell.

        Raises:
            RunError: one does already.
        """
        path = self.folder / "training.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise RunError(
                        f"{self.folder}: expected no other process to train here, got one: "
                        "wait for it, or use another folder"
                    ) from error
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all that a training and its evaluation wrote here; nothing else is touched."""
        for inner in (self.compressor, self.state.parent):
            for name in INNER:
                (inner / name).unlink(missing_ok=True)
            if inner.is_dir() and not any(inner.iterdir()):
                inner.rmdir()
        # The settings last: what is left by a crash is still known as a run.
        for pattern in OUTER:
            for file in self.folder.glob(pattern):
                file.unlink()


def write_settings(files: RunFiles, config: TrainConfig) -> None:
    """Note a run's config, or check that it is the one noted.

    Raises:
        RunError: the folder holds a run with other settings; names the first that differs.
    """
    tree = as_tree(config)
    if not files.settings.exists():
        write_json(files.settings, tree)
        return
    found = read_json(files.settings, RunError)
    differing = first_difference(found, tree)
    if differing is not None:
        key, old, new = differing
        raise RunError(
            f"{files.settings}: {key}: this run was begun with {old!r}, got {new!r}: "
            "use another folder, or give --overwrite"
        )


def read_settings(files: RunFiles) -> TrainConfig:
    """Settings of a run.

    Raises:
        RunError: no run there.
        ConfigError: settings that this version does not know.
    """
    if not files.settings.exists():
        raise RunError(f"{files.settings}: not found: run `llgbm-latentwire train` first")
    try:
        return structure(TrainConfig, read_json(files.settings, RunError))
    except ConfigError as error:
        raise ConfigError(f"{files.settings}: {error}") from error


def check_output(path: Path, run: Path) -> None:
    """Refuse to write over what a run is made of.

    Args:
        path: where results are to go.
        run: folder of the run.

    Raises:
        RunError: it is one of the run's own files, or a folder.
    """
    files = RunFiles(run)
    own = {files.settings, files.metrics, files.diagnostics, files.finished, files.data}
    own |= {files.compressor / TENSORS, files.compressor / "config.json"}
    own |= {files.state, files.progress}
    if path.resolve() in {each.resolve() for each in own}:
        raise RunError(f"{path}: expected another file, got one that the run is made of")
    if path.is_dir():
        raise RunError(f"{path}: expected a file to write, got a folder")


def first_difference(old: Any, new: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Path and values of the first place where two trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(str(key), old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(place), *both) for place, both in enumerate(zip(old, new, strict=True))]
    else:
        return None if old == new else (path, old, new)
    for key, one, other in pairs:
        found = first_difference(one, other, f"{path}.{key}" if path else key)
        if found is not None:
            return found
    return None


def save_compressor(
    folder: Path, compressor: Compressor, reader: Reader, more: dict[str, Any]
) -> None:
    """Write a whole compressor: every part's state, its config, and the reader it is for.

    Args:
        folder: made or replaced file by file.
        compressor: to write.
        reader: that it was trained for.
        more: JSON values worth keeping beside it.
    """
    metadata = {
        "reader": reader.name,
        "base_model": reader.name,
        "base_fingerprint": reader.fingerprint,
        "trained": len(compressor.trained()),
        **more,
    }
    description = {"compressor": as_tree(compressor.config)}
    write_module(compressor, folder, TENSORS, description, metadata)


def load_compressor(folder: Path, reader: Reader | None = None) -> tuple[Compressor, Reader]:
    """Load a compressor and the reader that it was trained for.

    Args:
        folder: of a run or of its compressor.
        reader: already loaded; loaded by the name that was noted where None.

    Raises:
        RunError: missing, half-written, parts or counts that do not fit, or another reader.
    """
    inner = RunFiles(folder).compressor
    folder = inner if inner.exists() else folder
    description, metadata = read_module_config(folder, "llgbm-latentwire train")
    check_pair(folder / TENSORS, description)
    reader = reader or load_reader(str(metadata.get("reader")))
    if metadata.get("base_fingerprint") != reader.fingerprint:
        noted = str(metadata.get("base_fingerprint"))[:12]
        raise RunError(mismatch(folder, "reader's weights", noted, reader.fingerprint[:12]))
    compressor = Compressor(structure(CompressorConfig, description["compressor"]), reader)
    trained = len(compressor.trained())
    if metadata.get("trained") != trained:
        raise RunError(mismatch(folder, "trained tensors", metadata.get("trained"), trained))
    fill_module(compressor, folder / TENSORS)
    return compressor.eval(), reader
