"""Everything that networks see of a collection: numbers of n checkpoints, read once from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.model.basis import BlockBasis, read_all


@dataclass(frozen=True)
class CheckpointTable:
    """Numbers of n checkpoints, run after run and each run by step.

    Attributes:
        coefficients: [n, b, k].
        statistics: [n, b, 3].
        metrics: [n, m], in their own units.
        hyperparameters: [n, h], in their own units.
        time: [n], share of the collection's longest training.
        runs: name of every checkpoint's run.
    """

    coefficients: Tensor
    statistics: Tensor
    metrics: Tensor
    hyperparameters: Tensor
    time: Tensor
    runs: tuple[str, ...]

    @classmethod
    def of(
        cls, basis: BlockBasis, collection: Collection, places: Sequence[int]
    ) -> CheckpointTable:
        """Read checkpoints."""
        coefficients, statistics = read_all(basis, collection, places)
        rows = list(places)
        longest = max(each.step for each in collection.checkpoints)
        steps = torch.tensor([collection.checkpoints[place].step for place in rows])
        return cls(
            coefficients,
            statistics,
            collection.metric_table()[rows],
            collection.hyperparameter_table()[rows],
            steps / max(1, longest),
            tuple(collection.checkpoints[place].run for place in rows),
        )

    def by_run(self) -> dict[str, list[int]]:
        """Rows of each run."""
        found: dict[str, list[int]] = {}
        for row, run in enumerate(self.runs):
            found.setdefault(run, []).append(row)
        return found

    def select(self, rows: Sequence[int]) -> CheckpointTable:
        """Some of the checkpoints."""
        index = list(rows)
        return CheckpointTable(
            self.coefficients[index],
            self.statistics[index],
            self.metrics[index],
            self.hyperparameters[index],
            self.time[index],
            tuple(self.runs[row] for row in index),
        )
