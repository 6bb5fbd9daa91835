"""`llgbm-bench sideways`: a collection larger than what is held, collected and fitted."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llgbm.bench.errors import NothingLearnedError
from llgbm.bench.results import results_of
from llgbm.bench.sideways_workload import write_runs
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.generators.sideways.collection.from_folders import FolderSource, collect_folders
from llgbm.generators.sideways.model.config import SidewaysTraining
from llgbm.generators.sideways.predict import OURS, agreement_on_test_runs
from llgbm.generators.sideways.train import fit_sideways

# Share of the metrics' variance that must be explained on unseen runs before anything is reported.
LEAST_R2 = 0.5


@dataclass(frozen=True)
class SidewaysConfig:
    """Time `llgbm sideways collect` and `train`, and measure the memory that they take.

    Args:
        runs: trainings, whose checkpoints are made here.
        checkpoints_per_run: of each.
        blocks: of a checkpoint, side x side numbers each; 20 of side 224, or one of side 1002, are
            a million.
        side: of a block.
        steps: of the fit.
        folder: where the checkpoints go for the time being, twice their size; the system's
            temporary folder where not given.
        out: JSON file of results; nothing is written where not given.
        seed: of everything random.
    """

    runs: int = 50
    checkpoints_per_run: int = 20
    blocks: int = 20
    side: int = 224
    steps: int = 200
    folder: Path | None = None
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(5, runs=self.runs)
        require_at_least(2, checkpoints_per_run=self.checkpoints_per_run)
        require_at_least(1, blocks=self.blocks, side=self.side, steps=self.steps)
        require_seed(self.seed)


def sideways(config: SidewaysConfig) -> dict[str, Any]:
    """Make checkpoints, collect and fit in a process of its own, check, print, write.

    Raises:
        NothingLearnedError: metrics of unseen runs are not predicted.
    """
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        folder = Path(name)
        size = write_runs(
            folder / "runs",
            config.runs,
            config.checkpoints_per_run,
            config.blocks,
            config.side,
            config.seed,
        )
        # A process of its own: what this one holds has no part in the peak.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found: dict[str, Any] = pool.apply(_work, (folder, config.steps, config.seed))
    if not found["r2"] >= LEAST_R2:
        raise NothingLearnedError(LEAST_R2, found["r2"])
    results = results_of(
        "sideways",
        replace(config, folder=None),
        torch.device("cpu"),
        torch.float32,
        checkpoints=config.runs * config.checkpoints_per_run,
        numbers=config.blocks * config.side**2,
        weights_mib=size / 2**20,
        process_mib=found["process_mib"],
        r2=found["r2"],
        rows={
            name: {"median_ms": 1e3 * found[name], "times_base": found[name] / found["read"]}
            for name in ("read", "collect", "fit")
        },
    )
    print(
        f"{results['checkpoints']} checkpoints of {results['numbers']:,} numbers, "
        f"{results['weights_mib']:.0f} MiB: read in {found['read']:.0f} s, collected in "
        f"{found['collect']:.0f} s, fitted in {found['fit']:.0f} s, R2 {found['r2']:.3f} on unseen "
        f"runs, largest size of the process {found['process_mib']:.0f} MiB"
    )
    if config.out is not None:
        write_json(config.out, results)
    return results


def _work(folder: Path, steps: int, seed: int) -> dict[str, float]:
    """Collect, fit, and read once more; seconds, lowest R2 of a metric, the largest size in MiB."""
    import resource
    import sys

    begin = time.perf_counter()
    collection = collect_folders(folder / "collection", FolderSource(folder / "runs"))
    collected = time.perf_counter()
    model = fit_sideways(collection, folder / "model", SidewaysTraining(steps=steps, seed=seed))
    fitted = time.perf_counter()
    for place in range(len(collection.checkpoints)):
        collection.weights(place)
    read = time.perf_counter()
    agreement = agreement_on_test_runs(model)[OURS]
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "collect": collected - begin,
        "fit": fitted - collected,
        "read": read - fitted,
        "r2": min(each.r2 for each in agreement.values()),
        # Linux counts KiB, macOS bytes.
        "process_mib": largest / (2**20 if sys.platform == "darwin" else 2**10),
    }
