"""What is known of a checkpoint: its run, step, metrics, hyperparameters and blocks of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Block:
    """One tensor of every checkpoint.

    Attributes:
        name: key in the checkpoint's file.
        shape: of the tensor; any number of axes.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Numbers in it."""
        return prod(self.shape)


@dataclass(frozen=True)
class CheckpointRecord:
    """One checkpoint of a collection.

    Attributes:
        run: name of the training that it comes from; splits are by run.
        step: of that training, counted from its start.
        metrics: what was measured; the same names in every checkpoint, all finite.
        hyperparameters: of the run; the same names in every checkpoint, all finite; may be empty.
        file: its weights, relative to the collection's folder.
        source: where the weights came from, for people.
    """

    run: str
    step: int
    metrics: Mapping[str, float]
    hyperparameters: Mapping[str, float]
    file: str
    source: str = ""
