"""Ways from one checkpoint to another, through the latent space and straight in the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError
from llgbm.generators.sideways.explore.anchored import Blocks
from llgbm.generators.sideways.model.files import SidewaysModel


def place_of(model: SidewaysModel, name: str) -> int:
    """Place of the checkpoint RUN/STEP, or of RUN's last one.

    Raises:
        SettingError: there is none of that name.
    """
    runs, records = model.collection.runs, model.collection.checkpoints
    if name in runs:
        return runs[name][-1]
    run, _, step = name.rpartition("/")
    for place in runs.get(run, []):
        if str(records[place].step) == step:
            return place
    known = (
        f"RUN/STEP with a step of {[records[place].step for place in runs[run]]}"
        if run in runs
        else f"RUN or RUN/STEP with a run such as {sorted(runs)[:3]}"
    )
    raise SettingError(f"checkpoint: expected {known}, got {name!r}")


def latent_of(model: SidewaysModel, place: int) -> Tensor:
    """Latent [1, z] of one of the collection's checkpoints."""
    coefficients, statistics = model.basis.read(model.collection.weights(place))
    return model.vae.encode(coefficients[None], statistics[None]).detach()


def straight_path(first: Mapping[str, Tensor], last: Mapping[str, Tensor], steps: int) -> Blocks:
    """Blocks [steps, *shape] at equal distances on the line between two checkpoints."""
    share = torch.linspace(0, 1, steps)
    return {
        name: torch.stack([value.lerp(last[name], float(each)) for each in share])
        for name, value in first.items()
    }


def latent_path(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Latents [steps, z] at equal distances on the line between two, [1, z] each."""
    share = torch.linspace(0, 1, steps)[:, None]
    return first + share * (last - first)


def through_ends(
    model: SidewaysModel, z: Tensor, first: Mapping[str, Tensor], last: Mapping[str, Tensor]
) -> Blocks:
    """Decoded latents [steps, z] with what decoding misses of both ends, each by its share.

    The first and the last of the blocks [steps, *shape] are the checkpoints themselves.
    """
    with torch.no_grad():
        decoded = model.weights(z)
    share = torch.linspace(0, 1, len(z))
    found = {}
    for name, value in decoded.items():
        missed = first[name] - value[0], last[name] - value[-1]
        more = torch.stack([missed[0].lerp(missed[1], float(each)) for each in share])
        found[name] = value + more
    return found
