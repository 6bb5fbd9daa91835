"""Codes of layers: does a layer's code speak of its layer alone, and how much does it carry?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.losses.weights import delta_w_inner
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.vae.generator import LoRAGeneratorVAE


@dataclass(frozen=True)
class LayersFound:
    """What the codes of layers do, z_global held fast.

    Attributes:
        own_share: of all squared change of updates, the share within the layer whose code was
            exchanged for the next adapter's; mean over layers.
        update_cosine_lost: per layer, what the cosine of whole updates with the teacher's loses
            when that layer's code is the mean code.
        delta_cosine_lost: the same of deltas.
    """

    own_share: float
    update_cosine_lost: tuple[float, ...]
    delta_cosine_lost: tuple[float, ...]


@torch.no_grad()
def ablate_layers(
    vae: LoRAGeneratorVAE, z: Tensor, teachers: LoRAWeights, behaviour: Behaviour
) -> LayersFound | None:
    """Exchange and blank the codes of layers, one at a time.

    Args:
        vae: with codes of layers.
        z: [n, size] latents of the teachers.
        teachers: n >= 2.
        behaviour: computes deltas.

    Returns:
        None for a flat latent.
    """
    whole, codes = vae.layout.split(z)
    if codes is None:
        return None
    device = device_of(behaviour.model)
    rebuilt = vae.generate_from_z(z)
    targets = behaviour(teachers.to(device))
    update = update_cosine(rebuilt, teachers)
    delta = delta_cosine(behaviour(rebuilt.to(device)), targets)
    shares, updates, deltas = [], [], []
    for layer in range(vae.layout.layers):
        exchanged, blank = codes.clone(), codes.clone()
        exchanged[layer] = codes[layer].roll(1, 0)
        blank[layer] = codes[layer].mean(0)
        changed = vae.generate_from_z(vae.layout.join(whole, exchanged))
        shares.append(own_share(rebuilt, changed, layer))
        without = vae.generate_from_z(vae.layout.join(whole, blank))
        updates.append(float((update - update_cosine(without, teachers)).mean()))
        moved = delta_cosine(behaviour(without.to(device)), targets)
        deltas.append(float((delta - moved).mean()))
    return LayersFound(float(torch.tensor(shares).mean()), tuple(updates), tuple(deltas))


def own_share(before: LoRAWeights, after: LoRAWeights, place: int) -> float:
    """Return the share of the squared change of n adapters' updates in layer number `place`.

    0 where nothing changes.
    """
    squares = (
        delta_w_inner(before, before)
        + delta_w_inner(after, after)
        - 2 * delta_w_inner(before, after)
    ).clamp_min(0)
    layers = sorted({module.layer for module in before.spec.modules})
    own = torch.tensor([module.layer == layers[place] for module in before.spec.modules])
    total = float(squares.sum())
    return float(squares[:, own].sum()) / total if total > 0 else 0.0
