"""What canonical forms promise, measured on adapters (seed 000, phase 4b.0)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.canonical.adapters import CANONICAL_FORMS, canonicalize_adapter
from llgbm.deltas.canonical.form import Parts
from llgbm.deltas.canonical.gauge import random_gauge
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.errors import require_at_least
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.weights import LoRAWeights


@dataclass(frozen=True)
class FormCheck:
    """One form on n adapters.

    Attributes:
        form: its name; `factors` for A and B as they are.
        numbers: scalars that the parts of one adapter hold.
        inverse_error: largest ||ΔW' - ΔW|| / ||ΔW|| of a module after form and inverse.
        delta_cosine: smallest cosine of an adapter's delta after form and inverse with its delta
            before.
        delta_error: largest ||delta' - delta|| / ||delta|| of an adapter.
        gauge_variance: variance of the parts over random gauges of one adapter, over their mean
            square: 0 where the gauge does not show.
    """

    form: str
    numbers: int
    inverse_error: float
    delta_cosine: float
    delta_error: float
    gauge_variance: float


@torch.no_grad()
def check_forms(
    model: nn.Module,
    weights: LoRAWeights,
    probes: ProbeSet,
    spec: DeltaSpec,
    gauges: int = 8,
    seed: int = 0,
) -> list[FormCheck]:
    """Check every form, and beside them the factors as they are.

    Args:
        model: frozen base of the adapters.
        weights: n adapters.
        probes: that deltas are read on.
        spec: of the deltas.
        gauges: random gauges of each adapter, at least 2.
        seed: of the gauges.

    Raises:
        SettingError: fewer than two gauges.
        AdapterError: NaN or Inf in a factor.
    """
    require_at_least(2, gauges=gauges)
    weights.check_finite()
    before = compute_delta(model, weights, probes, spec)
    generator = torch.Generator().manual_seed(seed)
    # In float64, so that what is left is the form's doing and not the gauge's rounding.
    exact = weights.map(torch.Tensor.double)
    turned = [random_gauge(exact, generator) for _ in range(gauges)]
    raw: list[dict[str, Parts]] = [
        {path: {"A": one.lora_A[path], "B": one.lora_B[path]} for path in one.spec.paths}
        for one in turned
    ]
    checks = [_check("factors", weights, weights, before, before, raw)]
    for form in CANONICAL_FORMS:
        back = canonicalize_adapter(weights, form).weights()
        after = compute_delta(model, back, probes, spec)
        parts = [dict(canonicalize_adapter(one, form).parts) for one in turned]
        checks.append(_check(form, weights, back, before, after, parts))
    return checks


def _check(
    form: str,
    weights: LoRAWeights,
    back: LoRAWeights,
    before: Tensor,
    after: Tensor,
    parts: list[dict[str, Parts]],
) -> FormCheck:
    first = parts[0]
    numbers = sum(part[0].numel() for module in first.values() for part in module.values())
    error = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    return FormCheck(
        form,
        numbers,
        max(_update_error(weights, back, path) for path in weights.spec.paths),
        float(delta_cosine(after, before).min()),
        float(error.nan_to_num(0.0).max()),
        _variance(parts),
    )


def _update_error(weights: LoRAWeights, back: LoRAWeights, path: str) -> float:
    """Largest relative error of a module's update, formed in float64."""
    first, second = (
        one.lora_B[path].double() @ one.lora_A[path].double() for one in (weights, back)
    )
    size = first.flatten(1).norm(dim=1)
    error = (second - first).flatten(1).norm(dim=1)
    return float(torch.where(size > 0, error / size, error).max())


def _variance(parts: list[dict[str, Parts]]) -> float:
    """Variance over gauges over the mean square, of all entries of all adapters."""
    variance = square = 0.0
    for path, module in parts[0].items():
        for name in module:
            stacked = torch.stack([one[path][name] for one in parts])
            variance += float(stacked.var(0, correction=0).sum())
            square += float(stacked.square().mean(0).sum())
    return variance / square if square else 0.0
