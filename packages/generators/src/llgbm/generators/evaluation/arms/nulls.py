"""Null arms: adapters that know nothing of the task asked for (anchors: baselines)."""

from __future__ import annotations

import torch

from llgbm.deltas.merging import merge
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.pool import AdapterPool


def random_matched(reference: LoRAWeights, generator: torch.Generator) -> LoRAWeights:
    """Return a random adapter whose updates have the reference's mean norm, module by module.

    Args:
        reference: n adapters.
        generator: on the CPU.
    """
    spec = reference.spec
    lora_A, lora_B = {}, {}
    for module in spec.modules:
        lora_A[module.path] = torch.randn(1, spec.r, module.in_features, generator=generator)
        lora_B[module.path] = torch.randn(1, module.out_features, spec.r, generator=generator)
    drawn = LoRAWeights(spec, lora_A, lora_B)
    ratio = reference.delta_norms().mean(0).cpu() / drawn.delta_norms()[0].clamp_min(1e-12)
    scaled = {path: lora_B[path] * ratio[index] for index, path in enumerate(spec.paths)}
    return LoRAWeights(spec, lora_A, scaled)


def mean_adapter(teachers: LoRAWeights) -> LoRAWeights:
    """Return the rank-r adapter nearest to the mean of the teachers' updates."""
    return merge(teachers)


def teacher_with_noise(
    teacher: LoRAWeights, size: float, generator: torch.Generator
) -> LoRAWeights:
    """Return teacher + noise, as an adapter of twice the rank so that nothing is cut off.

    Args:
        teacher: one adapter (n = 1).
        size: norm of the noise in each module over the norm of the teacher's update there.
        generator: on the CPU.

    Returns:
        n = 1, rank 2 r: the update plus a Gaussian one of rank r.
    """
    teacher = teacher.to("cpu", torch.float32)
    noise = random_matched(teacher, generator)
    together = LoRAWeights.concatenate([teacher, noise])
    return merge(together, [1.0, size], r=2 * teacher.spec.r)


def gaussian_adapter(teachers: LoRAWeights, generator: torch.Generator) -> LoRAWeights:
    """Draw from the Gaussian with the teachers' mean and covariance, over whole adapters.

    mean + Σ z_i (ΔW_i - mean) / √(n - 1) with z_i standard normal has just that covariance and
    lies in the span of the teachers' updates. One z_i serves all modules of a teacher, so that
    modules vary together as they do among teachers. Re-factored to rank r.

    Args:
        teachers: n of them; with one, it is returned as it is.
        generator: on the CPU.
    """
    n = teachers.n
    z = torch.randn(n, generator=generator)
    deviations = (z - z.mean()) / max(1, n - 1) ** 0.5
    return merge(teachers, (1.0 / n + deviations).tolist())


def random(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """A random LoRA, norms matched to the teachers' mean; one for all tasks."""

    def make() -> LoRAWeights:
        return random_matched(context.train, torch.Generator().manual_seed(context.seed))

    pool.add("random", "random", lambda: context.once("random", make))


def mean(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The mean of the training teachers' updates."""
    pool.add(
        "mean_adapter",
        "mean_adapter",
        lambda: context.once("mean", lambda: mean_adapter(context.train_on_device)),
    )


def noise(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The task's first teacher with noise of a stated size."""
    entry = context.teacher_entries(index)[0]
    pool.add(
        "teacher_noise",
        f"noise:{entry.id}",
        lambda: teacher_with_noise(
            context.teacher(entry), context.settings.noise, context.drawn(f"noise:{entry.id}")
        ),
    )


def gaussian(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """One draw from a Gaussian fitted to the training teachers; the same for all tasks."""
    pool.add(
        "gaussian",
        "gaussian",
        lambda: context.once(
            "gaussian",
            lambda: gaussian_adapter(context.train_on_device, context.drawn("gaussian")),
        ),
    )
