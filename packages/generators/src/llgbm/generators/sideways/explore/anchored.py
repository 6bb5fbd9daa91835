"""Latents written as changes of real weights, so that what decoding misses is not lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.model.files import SidewaysModel

Blocks = dict[str, Tensor]
# Places of checkpoints in the collection, and their shares, which sum to 1.
Mixture = tuple[tuple[int, float], ...]


# Distance from what was measured at which a prediction is as unsure as one without an anchor; two
# checkpoints are about 1 apart.
UNSURE_FROM = 0.25
TINY = 1e-12


@dataclass(frozen=True)
class Anchored:
    """n latents, each with its anchor: a checkpoint, or a mean of several.

    A latent stands for the anchor's weights plus what decoding changes between the anchor's own
    latent and it; likewise its metrics are the anchor's measured ones plus the change that is
    predicted. Of a mixture the parts' metrics are averaged (in bent units): it was not measured.

    Attributes:
        space: around the training checkpoints' latents.
        z: [n, z].
        mixtures: anchors.
        origin: [n, z], the anchors' own latents.
        known: [n, m], the anchors' metrics, bent and standardised.
        apart: [n], mean distance of an anchor's parts from it; 0 of a single checkpoint.
    """

    space: LatentSpace
    z: Tensor
    mixtures: tuple[Mixture, ...]
    origin: Tensor
    known: Tensor
    apart: Tensor

    @classmethod
    def at(cls, model: SidewaysModel, mixtures: Sequence[Mixture]) -> Anchored:
        """The anchors themselves, of training checkpoints; read from disk one after another."""
        every = cls.training(model)
        rows = {mixture[0][0]: row for row, mixture in enumerate(every.mixtures)}
        read = [model.basis.read(mixed(model, mixture)) for mixture in mixtures]
        with torch.no_grad():
            origin = model.vae.encode(
                torch.stack([each[0] for each in read]), torch.stack([each[1] for each in read])
            )
        known, apart = [], []
        for mixture, own in zip(mixtures, origin, strict=True):
            parts = every.select([rows[place] for place, _ in mixture])
            shares = torch.tensor([share for _, share in mixture])
            known.append(shares @ parts.known)
            far = every.space.distance(parts.origin, own[None])
            apart.append(shares @ far if len(mixture) > 1 else torch.zeros(()))
        return cls(
            every.space, origin, tuple(mixtures), origin, torch.stack(known), torch.stack(apart)
        )

    @classmethod
    def training(cls, model: SidewaysModel) -> Anchored:
        """Every training checkpoint, row by row of the model's training table."""
        places = model.split.places(model.collection, "train")
        space = LatentSpace.of(model)
        mixtures = tuple(((place, 1.0),) for place in places)
        known = model.vae.metric_scale(model.train_table.metrics)
        return cls(space, space.centres, mixtures, space.centres, known, torch.zeros(len(places)))

    def __len__(self) -> int:
        return len(self.z)

    def moved(self, z: Tensor) -> Anchored:
        """Other latents [n, z] from the same anchors."""
        return replace(self, z=z)

    def select(self, rows: Sequence[int]) -> Anchored:
        """Some of them."""
        index = list(rows)
        return Anchored(
            self.space,
            self.z[index],
            tuple(self.mixtures[row] for row in index),
            self.origin[index],
            self.known[index],
            self.apart[index],
        )

    def distance(self) -> Tensor:
        """How far every latent is from its anchor, [n]; see `LatentSpace.distance`."""
        return self.space.distance(self.z, self.origin)

    @torch.no_grad()
    def weights(self, model: SidewaysModel) -> Blocks:
        """Blocks [n, *shape] by name."""
        changed, own = model.weights(self.z), model.weights(self.origin)
        read = [mixed(model, mixture) for mixture in self.mixtures]
        return {
            name: torch.stack([each[name] for each in read]) + (value - own[name])
            for name, value in changed.items()
        }

    def predict(self, model: SidewaysModel, bounded: bool = True) -> tuple[Tensor, Tensor]:
        """Metrics and their standard errors, [n, m] each, in their own units; differentiable.

        Errors grow with the distance from what was measured.

        Args:
            model: whose latents they are.
            bounded: promise no metric that no training checkpoint has; a search is to see beyond.
        """
        predictor, scale = model.vae.predictor, model.vae.metric_scale
        change = predictor.each(self.z) - predictor.each(self.origin)
        mean = self.known + change.mean(0)
        if bounded:
            seen = scale(model.train_table.metrics)
            mean = mean.clamp(seen.amin(0), seen.amax(0))
        unsure = ((self.distance() + self.apart) / UNSURE_FROM).clamp_max(1)
        missed = unsure[:, None] * predictor.left_out.square()
        # The root of nothing has no gradient.
        error = (change.var(0, unbiased=False) + missed + TINY).sqrt()
        return scale.back(mean), (scale.back(mean + error) - scale.back(mean - error)) / 2

    def names(self, model: SidewaysModel) -> list[dict[str, float]]:
        """Share of each checkpoint RUN/STEP in each anchor."""
        records = model.collection.checkpoints
        return [
            {f"{records[place].run}/{records[place].step}": share for place, share in mixture}
            for mixture in self.mixtures
        ]


def concatenate(parts: Sequence[Anchored]) -> Anchored:
    """One after another."""
    return Anchored(
        parts[0].space,
        torch.cat([each.z for each in parts]),
        tuple(mixture for each in parts for mixture in each.mixtures),
        torch.cat([each.origin for each in parts]),
        torch.cat([each.known for each in parts]),
        torch.cat([each.apart for each in parts]),
    )


def mixed(model: SidewaysModel, mixture: Mixture) -> Blocks:
    """Weights of a mixture, read from the collection."""
    found: Blocks = {}
    for place, share in mixture:
        for name, value in model.collection.weights(place).items():
            found[name] = found[name].add(value, alpha=share) if name in found else share * value
    return found


def separate(blocks: Blocks) -> list[Blocks]:
    """Blocks [n, *shape] as n checkpoints."""
    count = len(next(iter(blocks.values())))
    return [{name: each[row] for name, each in blocks.items()} for row in range(count)]


def together(checkpoints: Sequence[Mapping[str, Tensor]]) -> Blocks:
    """Undo `separate`."""
    return {name: torch.stack([each[name] for each in checkpoints]) for name in checkpoints[0]}
