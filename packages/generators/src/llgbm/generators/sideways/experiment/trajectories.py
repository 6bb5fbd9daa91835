"""Unseen runs from their first checkpoint and hyperparameters: whole ways, and their ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llgbm.generators.sideways.experiment.results import TrajectoryPoint
from llgbm.generators.sideways.model.files import SidewaysModel
from llgbm.generators.sideways.trajectory import trajectory_rows

OURS, LAST, MEAN = "latent dynamics", "last value", "mean curve"


def unseen_trajectories(model: SidewaysModel) -> dict[str, tuple[TrajectoryPoint, ...]]:
    """Every test run's ways."""
    records = model.collection.checkpoints
    found = {}
    for run in model.split.test:
        places = model.collection.runs[run]
        steps = [records[place].step for place in places]
        rows = trajectory_rows(model, places[0], records[places[0]].hyperparameters, steps)
        found[run] = tuple(TrajectoryPoint(**row) for row in rows)
    return found


def end_errors(
    model: SidewaysModel, trajectories: Mapping[str, Sequence[TrajectoryPoint]]
) -> dict[str, dict[str, float]]:
    """Mean absolute error of the metrics at the end of the test runs, by who predicts.

    `last value` says that metrics stay as they are at the first checkpoint, `mean curve` that the
    run ends as training runs do on average.
    """
    table = model.table("test")
    train = model.train_table
    ends = torch.stack([train.metrics[rows[-1]] for rows in train.by_run().values()]).mean(0)
    missed: dict[str, list[Tensor]] = {OURS: [], LAST: [], MEAN: []}
    for run, rows in table.by_run().items():
        truth = table.metrics[rows[-1]]
        ours = trajectories[run][-1].predicted
        missed[OURS].append(torch.tensor([ours[name] for name in model.metrics]) - truth)
        missed[LAST].append(table.metrics[rows[0]] - truth)
        missed[MEAN].append(ends - truth)
    return {
        name: dict(zip(model.metrics, torch.stack(each).abs().mean(0).tolist(), strict=True))
        for name, each in missed.items()
    }
