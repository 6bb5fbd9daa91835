"""Split by run: no checkpoint of a run that is trained on is ever tested on."""

from __future__ import annotations

import random
from dataclasses import dataclass

from llgbm.deltas.errors import RunError
from llgbm.generators.sideways.collection.collection import FEWEST_RUNS, Collection


@dataclass(frozen=True)
class RunSplit:
    """Runs by what they are for.

    Attributes:
        train: fitted to.
        validation: choose the best step and the width of uncertainty.
        test: looked at once, by `predict` and the experiment.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def places(self, collection: Collection, part: str) -> list[int]:
        """Places of a part's checkpoints, run after run."""
        return [place for run in getattr(self, part) for place in collection.runs[run]]


def split_runs(collection: Collection, seed: int, share: float = 0.2) -> RunSplit:
    """Draw the runs of each part: `share` of them to validation and as many to test.

    Raises:
        RunError: fewer than three runs.
    """
    runs = sorted(collection.runs)
    if len(runs) < FEWEST_RUNS:
        raise RunError(
            f"{collection.folder}: runs: expected at least {FEWEST_RUNS}, one to train on, one to "
            f"choose by, one to test on, got {len(runs)}"
        )
    random.Random(f"sideways:{seed}").shuffle(runs)
    count = max(1, round(share * len(runs)))
    count = min(count, (len(runs) - 1) // 2)
    return RunSplit(
        tuple(sorted(runs[2 * count :])),
        tuple(sorted(runs[:count])),
        tuple(sorted(runs[count : 2 * count])),
    )
