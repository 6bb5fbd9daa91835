"""Latents written as changes of real weights, so that what decoding misses is not lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llgbm.generators.sideways.model.files import SidewaysModel

Blocks = dict[str, Tensor]
# Places of checkpoints in the collection, and their shares, which sum to 1.
Mixture = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Anchored:
    """n latents, each with its anchor: a checkpoint, or a mean of several.

    A latent stands for the anchor's weights plus what decoding changes between the anchor's own
    latent and it; likewise its metrics are the anchor's measured ones plus the change that is
    predicted. Of a mixture the parts' metrics are averaged (in bent units): it was not measured.

    Attributes:
        z: [n, z].
        mixtures: anchors.
        origin: [n, z], the anchors' own latents.
        known: [n, m], the anchors' metrics, bent and standardised.
    """

    z: Tensor
    mixtures: tuple[Mixture, ...]
    origin: Tensor
    known: Tensor

    @classmethod
    def at(cls, model: SidewaysModel, mixtures: Sequence[Mixture]) -> Anchored:
        """The anchors themselves; read from disk one after another."""
        measured = model.vae.metric_scale(model.collection.metric_table())
        read, known = [], []
        for mixture in mixtures:
            read.append(model.basis.read(mixed(model, mixture)))
            known.append(sum(share * measured[place] for place, share in mixture))
        with torch.no_grad():
            origin = model.vae.encode(
                torch.stack([each[0] for each in read]), torch.stack([each[1] for each in read])
            )
        return cls(origin, tuple(mixtures), origin, torch.stack(known))

    @classmethod
    def training(cls, model: SidewaysModel) -> Anchored:
        """Every training checkpoint, row by row of the model's training table."""
        places = model.split.places(model.collection, "train")
        centres = model.centres(model.train_table)
        known = model.vae.metric_scale(model.train_table.metrics)
        return cls(centres, tuple(((place, 1.0),) for place in places), centres, known)

    def __len__(self) -> int:
        return len(self.z)

    def moved(self, z: Tensor) -> Anchored:
        """Other latents [n, z] from the same anchors."""
        return replace(self, z=z)

    def select(self, rows: Sequence[int]) -> Anchored:
        """Some of them."""
        index = list(rows)
        mixtures = tuple(self.mixtures[row] for row in index)
        return Anchored(self.z[index], mixtures, self.origin[index], self.known[index])

    @torch.no_grad()
    def weights(self, model: SidewaysModel) -> Blocks:
        """Blocks [n, *shape] by name."""
        changed, own = model.weights(self.z), model.weights(self.origin)
        read = [mixed(model, mixture) for mixture in self.mixtures]
        return {
            name: torch.stack([each[name] for each in read]) + (value - own[name])
            for name, value in changed.items()
        }

    def predict(self, model: SidewaysModel) -> tuple[Tensor, Tensor]:
        """Metrics and their standard errors, [n, m] each, in their own units; differentiable."""
        predictor, back = model.vae.predictor, model.vae.metric_scale.back
        change = predictor.each(self.z) - predictor.each(self.origin)
        mean = self.known + change.mean(0)
        error = (change.var(0, unbiased=False) + predictor.left_out.square()).sqrt()
        return back(mean), (back(mean + error) - back(mean - error)) / 2

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
        torch.cat([each.z for each in parts]),
        tuple(mixture for each in parts for mixture in each.mixtures),
        torch.cat([each.origin for each in parts]),
        torch.cat([each.known for each in parts]),
    )


def mixed(model: SidewaysModel, mixture: Mixture) -> Blocks:
    """Weights of a mixture, read from the collection."""
    found: Blocks = {}
    for place, share in mixture:
        for name, value in model.collection.weights(place).items():
            found[name] = found[name].add(value, alpha=share) if name in found else share * value
    return found
