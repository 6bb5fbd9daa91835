"""Augmentation: more adapters than there are teachers (seed 000, "Data augmentation")."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llgbm.deltas.errors import RunError, SettingError, mismatch, require_at_least
from llgbm.deltas.merging import merge
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dataset import TeacherPrompts
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import TeacherEntry
from llgbm.generators.training.inputs import TrainingInputs

Behave = Callable[[LoRAWeights], Tensor]
# Adapters of one forward, where their deltas are computed.
AT_ONCE = 8


@dataclass(frozen=True)
class AugmentConfig:
    """Synthetic adapters beside the teachers.

    Args:
        interpolated: adapters between two teachers, in the space of updates.
        partial: teachers without the updates of some layers.
        keep: share of the layers that a partial adapter keeps.
        trajectories: checkpoints of each teacher's way, the last ones, where the run has some
            (`llgbm teach --keep-every`).
        noise: standard deviation of what is added to the factors that the encoder reads, in every
            step, as a share of their RMS; the clean adapter is what has to be rebuilt.
    """

    interpolated: int = 0
    partial: int = 0
    keep: float = 0.5
    trajectories: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(
            0,
            interpolated=self.interpolated,
            partial=self.partial,
            trajectories=self.trajectories,
            noise=self.noise,
        )
        if not 0 < self.keep < 1:
            raise SettingError(f"keep: expected between 0 and 1, got {self.keep:g}")


def interpolated(
    teachers: LoRAWeights, pairs: Sequence[tuple[int, int]], shares: Sequence[float]
) -> LoRAWeights:
    """Return one adapter a pair: (1 - share) of the first update and share of the second.

    Exact up to the truncation to rank r; never A and B apart.

    Args:
        teachers: n adapters.
        pairs: places of two of them.
        shares: one a pair.
    """
    return LoRAWeights.concatenate(
        [
            merge(teachers.select(list(pair)), [1 - share, share])
            for pair, share in zip(pairs, shares, strict=True)
        ]
    )


def partial(teachers: LoRAWeights, keep: float, rng: random.Random) -> LoRAWeights:
    """Return the teachers with the updates of a share of their layers alone, drawn for each.

    At least one layer is kept and, of two or more, one is lost.
    """
    layers = sorted({module.layer for module in teachers.spec.modules})
    count = min(max(1, round(keep * len(layers))), max(1, len(layers) - 1))
    kept = [set(rng.sample(layers, count)) for _ in range(teachers.n)]
    lora_B = {}
    for module in teachers.spec.modules:
        mask = torch.tensor([module.layer in own for own in kept])
        factor = teachers.lora_B[module.path]
        lora_B[module.path] = factor * mask.to(factor)[:, None, None]
    return LoRAWeights(teachers.spec, teachers.lora_A, lora_B)


def with_noise(adapters: LoRAWeights, share: float, generator: torch.Generator) -> LoRAWeights:
    """Add normal numbers to the factors, `share` of each factor's RMS; the generator is a CPU's."""
    if not share:
        return adapters

    def noisy(factor: Tensor) -> Tensor:
        noise = torch.randn(factor.shape, generator=generator).to(factor)
        return factor + share * factor.square().mean((1, 2), keepdim=True).sqrt() * noise

    return adapters.map(noisy)


def kept_on_the_way(
    run: RunFolder, entries: Sequence[TeacherEntry], count: int
) -> tuple[list[int], LoRAWeights]:
    """Load the last checkpoints that teachers left along their way.

    Args:
        run: folder of the run.
        entries: teachers.
        count: checkpoints of each.

    Returns:
        Place of each checkpoint's teacher, and the checkpoints.

    Raises:
        RunError: a teacher that left fewer.
    """
    places, loaded = [], []
    for place, entry in enumerate(entries):
        folder = run.trajectories / entry.task / entry.id
        found = sorted(folder.glob("step_*")) if folder.is_dir() else []
        if len(found) < count:
            raise RunError(
                mismatch(folder, "checkpoints", f"at least {count}", len(found))
                + ": run `llgbm teach` with --keep-every, or lower --augment.trajectories"
            )
        for path in found[-count:]:
            places.append(place)
            loaded.append(load_adapter(path))
    return places, LoRAWeights.concatenate(loaded)


def augmented(
    inputs: TrainingInputs,
    config: AugmentConfig,
    behaviour: Behave,
    seed: int,
    run: RunFolder,
) -> TrainingInputs:
    """Return the inputs with synthetic adapters after the teachers.

    Their deltas are computed, since behaviour is not linear in the updates. An interpolated adapter
    is told from prompts of both its parents.

    Args:
        inputs: of the training.
        config: how many.
        behaviour: computes deltas.
        seed: of the draws.
        run: folder of the run.

    Raises:
        RunError: fewer checkpoints than asked for.
    """
    rng = random.Random(f"{seed}:augment")
    made: list[LoRAWeights] = []
    prompts: list[TeacherPrompts] = []
    n = inputs.weights.n
    if config.interpolated and n > 1:
        pairs = [tuple(rng.sample(range(n), 2)) for _ in range(config.interpolated)]
        shares = [rng.uniform(0.2, 0.8) for _ in pairs]
        made.append(interpolated(inputs.weights, pairs, shares))  # type: ignore[arg-type]
        prompts += [joined(inputs.prompts[a], inputs.prompts[b]) for a, b in pairs]
    if config.partial:
        places = [rng.randrange(n) for _ in range(config.partial)]
        made.append(partial(inputs.weights.select(places), config.keep, rng))
        prompts += [inputs.prompts[place] for place in places]
    if config.trajectories:
        places, way = kept_on_the_way(run, inputs.entries, config.trajectories)
        made.append(way)
        prompts += [inputs.prompts[place] for place in places]
    if not made:
        return inputs
    together = LoRAWeights.concatenate(made)
    with torch.no_grad():
        deltas = torch.cat(
            [
                behaviour(together.select(slice(start, start + AT_ONCE))).cpu()
                for start in range(0, together.n, AT_ONCE)
            ]
        )
    return replace(
        inputs,
        weights=LoRAWeights.concatenate([inputs.weights, together]),
        prompts=(*inputs.prompts, *prompts),
        deltas=torch.cat([inputs.deltas, deltas]),
    )


def joined(first: TeacherPrompts, second: TeacherPrompts) -> TeacherPrompts:
    """Prompts of two teachers as those of one."""
    return TeacherPrompts(
        first.prompts + second.prompts,
        first.answers + second.answers,
        first.descriptions + second.descriptions,
    )
