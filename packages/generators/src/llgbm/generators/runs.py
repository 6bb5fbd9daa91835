"""RunFolder: where each part of a run lies (the data layout of seed 002)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from llgbm.deltas.errors import RunError

LOCK = ".lock"
# Stands in a generator's or retriever's folder once its training has ended.
FINISHED = "finished.json"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Teachers, one folder a task."""
        return self.root / "checkpoints"

    @property
    def manifest(self) -> Path:
        """Central index of the teachers."""
        return self.checkpoints / "manifest.json"

    @property
    def trajectories(self) -> Path:
        """Checkpoints that teachers left along the way, TASK/ID/step_NNNNN."""
        return self.root / "trajectories"

    @property
    def deltas(self) -> Path:
        """Delta cache of the teachers."""
        return self.checkpoints / "deltas"

    def delta_cache(self, name: str = "") -> Path:
        """A delta cache of the teachers: the one of the main job, or another by name."""
        return self.deltas if not name else self.checkpoints / f"deltas-{name}"

    @property
    def embeddings(self) -> Path:
        """Text embedding cache."""
        return self.root / "embeddings"

    def generator(self, name: str) -> Path:
        """Folder of one trained generator."""
        return self.root / "generators" / name

    def retriever(self, name: str) -> Path:
        """Folder of one trained predictor of deltas."""
        return self.root / "retrievers" / name

    @property
    def generators(self) -> list[str]:
        """Names of the trained generators, sorted."""
        folder = self.root / "generators"
        if not folder.is_dir():
            return []
        return sorted(
            path.name for path in folder.iterdir() if (path / "generator.safetensors").exists()
        )

    @property
    def generated(self) -> Path:
        """Adapters written by the generator, one folder a task."""
        return self.root / "generated"

    @property
    def results(self) -> Path:
        """Results of the evaluation."""
        return self.root / "evaluation" / "results.json"

    @property
    def scores(self) -> Path:
        """Outcome of every scored example."""
        return self.root / "evaluation" / "scores.jsonl"

    @property
    def experiments(self) -> Path:
        """Results of experiments, a file each."""
        return self.root / "experiments"

    @property
    def report(self) -> Path:
        """Self-contained report."""
        return self.root / "report.html"

    def require(self, path: Path, command: str) -> Path:
        """Return `path`, or raise RunError naming the command that makes it."""
        if not path.exists():
            raise RunError(f"{path}: not found: run `{command}` first")
        return path


@contextmanager
def alone(run: RunFolder) -> Iterator[None]:
    """Hold a run folder: experiments share its teachers and their index.

    Raises:
        RunError: another process holds it.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    lock = run.root / LOCK
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                # What was refused before any work leaves no folder behind.
                if list(run.root.iterdir()) == [lock]:
                    lock.unlink()
                    run.root.rmdir()
    except Timeout as error:
        raise RunError(
            f"{run.root}: expected a run folder that no other experiment works in, got one that "
            "does: wait for it, or give another --run"
        ) from error
