"""Directions of weight space that checkpoints differ in, the same ones in every block.

The directions are combinations of checkpoints: those that explain most of how all weights together
differ (principal components, by the Gram matrix of the checkpoints). Within a block each direction
has its own size, so that a checkpoint is a table of numbers, blocks by directions, whatever the
blocks' shapes are. A decoder that is linear in its last layer and fitted by gradients from zero
writes nothing but combinations of what it was trained on either.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.collection.records import Block

# Bytes of checkpoints that are held at once.
MEMORY = 2 * 2**30
# Of a block that are worked on at once.
COLUMNS = 2**16
# Of a block's mean squared size: keeps a direction that a block hardly has from growing.
RIDGE = 1e-3
# Statistics of a block beside its numbers along the directions.
STATISTICS = ("log_norm", "log_distance", "log_rest")


@dataclass(frozen=True)
class BlockBasis:
    """Directions, block by block.

    Attributes:
        blocks: b of them.
        mean: by block name, of the checkpoints that the basis was fitted to, float32.
        directions: by block name, [k, *shape] float32.
        inverse: [b, k, k] float32, turns products with the directions into coefficients.
    """

    blocks: tuple[Block, ...]
    mean: Mapping[str, Tensor]
    directions: Mapping[str, Tensor]
    inverse: Tensor

    @property
    def k(self) -> int:
        """Number of directions."""
        return self.inverse.shape[-1]

    def read(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Coefficients [b, k] of one checkpoint, and statistics [b, 3] of its blocks."""
        coefficients, statistics = [], []
        for block, inverse in zip(self.blocks, self.inverse, strict=True):
            whole = weights[block.name].flatten()
            moved = whole - self.mean[block.name].flatten()
            rows = self.directions[block.name].reshape(self.k, -1)
            # The inverse of a small block's products is large, and so is what it makes of rounding.
            found = (inverse.double() @ (rows.double() @ moved.double())).float()
            rest = moved - found @ rows
            coefficients.append(found)
            norms = torch.stack([whole.norm(), moved.norm(), rest.norm()])
            statistics.append((norms + 1e-8).log())
        return torch.stack(coefficients), torch.stack(statistics)

    def write(self, coefficients: Tensor) -> dict[str, Tensor]:
        """Weights by block name, [n, *shape], of coefficients [n, b, k]; differentiable."""
        return {
            block.name: (
                self.mean[block.name].flatten()
                + coefficients[:, place] @ self.directions[block.name].reshape(self.k, -1)
            ).reshape(len(coefficients), *block.shape)
            for place, block in enumerate(self.blocks)
        }


def fit_basis(collection: Collection, places: Sequence[int], k: int) -> BlockBasis:
    """Fit directions to checkpoints; where they do not fit the memory, to some of them.

    Blocks are brought to one size first (normalisation per block).

    Args:
        collection: read from disk, one checkpoint at a time.
        places: of the checkpoints to fit to: training runs alone.
        k: directions, fewer where there are fewer checkpoints.
    """
    blocks = collection.blocks
    size = 4 * sum(block.numel for block in blocks)
    most = max(2, MEMORY // size)
    if most <= min(k, len(places) - 1):
        print(
            f"directions: {most - 1} in place of {k}: of {size / 2**30:.1f} GiB a checkpoint "
            f"{most} fit the memory: collect fewer weights (--files.keep)"
        )
    chosen = spread_over_runs(collection, places, most)
    held = [collection.weights(place) for place in chosen]
    mean = {block.name: _mean([each[block.name] for each in held]) for block in blocks}
    gram = torch.zeros(len(held), len(held), dtype=torch.float64)
    for block in blocks:
        products = torch.zeros_like(gram)
        for moved, _ in _moved(held, block, mean):
            products += (moved @ moved.T).double()
        # Blocks count alike, whatever the size of their numbers.
        gram += products / products.trace().clamp_min(1e-24 * block.numel)
    values, vectors = torch.linalg.eigh(gram)
    # The mean is taken out: at least one direction is nothing.
    k = min(k, len(held) - 1)
    top = values[-k:].flip(0).clamp_min(1e-12)
    mix = (vectors[:, -k:].flip(1) / top.sqrt()).T.float()
    directions: dict[str, Tensor] = {}
    inverses = []
    for block in blocks:
        rows = torch.empty(k, block.numel)
        for moved, columns in _moved(held, block, mean):
            rows[:, columns] = mix @ moved
        directions[block.name] = rows.reshape(k, *block.shape)
        products = (rows @ rows.T).double()
        eased = products + RIDGE * products.diagonal().mean().clamp_min(1e-12) * torch.eye(k)
        inverses.append(torch.linalg.inv(eased).float())
    return BlockBasis(blocks, mean, directions, torch.stack(inverses))


def spread_over_runs(collection: Collection, places: Sequence[int], most: int) -> list[int]:
    """At most so many places: every run's last checkpoint first, then others at random."""
    rng = random.Random("sideways-basis")
    by_run: dict[str, list[int]] = {}
    for place in places:
        by_run.setdefault(collection.checkpoints[place].run, []).append(place)
    orders = []
    for rows in by_run.values():
        rest = rows[:-1]
        rng.shuffle(rest)
        orders.append([rows[-1], *rest])
    rounds = zip_longest(*orders)
    taken = [place for each in rounds for place in each if place is not None]
    return sorted(taken[:most])


def read_all(
    basis: BlockBasis, collection: Collection, places: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Coefficients [n, b, k] and statistics [n, b, 3] of checkpoints, read one after another."""
    rows = [basis.read(weights) for weights in _each(collection, places)]
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


def _each(collection: Collection, places: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    for place in places:
        yield collection.weights(place)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Mean of like tensors, without a copy of all of them."""
    total = torch.zeros_like(tensors[0])
    for each in tensors:
        total += each
    return total / len(tensors)


def _moved(
    held: Sequence[Mapping[str, Tensor]], block: Block, mean: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, slice]]:
    """How far a block of n checkpoints is from the mean: some columns [n, c] after others."""
    middle = mean[block.name].flatten()
    flat = [each[block.name].flatten() for each in held]
    for start in range(0, block.numel, COLUMNS):
        columns = slice(start, min(start + COLUMNS, block.numel))
        yield torch.stack([each[columns] - middle[columns] for each in flat]), columns
