"""What canonical forms promise, measured on adapters (seed 000, phase 4b.0)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import nn

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.canonical.adapters import CANONICAL_FORMS, canonicalize_adapter
from llgbm.deltas.canonical.form import Parts
from llgbm.deltas.canonical.gauge import random_gauge
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.errors import AdapterError, require_at_least
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.spec import LoRASpec
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
        AdapterError: NaN or Inf in a factor, or in what comes of it.
    """
    require_at_least(2, gauges=gauges)
    weights.check_finite()
    before = compute_delta(model, weights, probes, spec)
    checks = []
    for form in ("factors", *CANONICAL_FORMS):
        generator = torch.Generator().manual_seed(seed)
        lora_A, lora_B = {}, {}
        numbers, sums = 0, [0.0, 0.0]
        # Module by module: a form of all ΔW at once is as large as the model, and there are many.
        for path, one in _modules(weights):
            back = one if form == "factors" else canonicalize_adapter(one, form).weights()
            lora_A[path], lora_B[path] = back.lora_A[path], back.lora_B[path]
            # In float64, so that what is left is the form's doing and not the gauge's rounding.
            exact = one.map(torch.Tensor.double)
            turned = [_parts(random_gauge(exact, generator), form) for _ in range(gauges)]
            numbers += sum(part[0].numel() for part in turned[0].values())
            for place, value in enumerate(_spread(turned)):
                sums[place] += value
        whole = LoRAWeights(weights.spec, lora_A, lora_B)
        after = before if form == "factors" else compute_delta(model, whole, probes, spec)
        error = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
        check = FormCheck(
            form,
            numbers,
            max(_update_error(weights, whole, path) for path in weights.spec.paths),
            float(delta_cosine(after, before).min()),
            float(error.nan_to_num(0.0).max()),
            sums[0] / sums[1] if sums[1] else 0.0,
        )
        _check_finite(check)
        checks.append(check)
    return checks


def _check_finite(check: FormCheck) -> None:
    """Raise AdapterError where updates or deltas are too large for the check to mean anything."""
    for name, value in asdict(check).items():
        if name != "form" and not math.isfinite(value):
            raise AdapterError(
                f"{check.form}: {name}: expected a finite number, got {value}: an adapter's update "
                "or delta is beyond float32"
            )


def _modules(weights: LoRAWeights) -> Iterator[tuple[str, LoRAWeights]]:
    """The adapters of every module alone."""
    for module in weights.spec.modules:
        spec = LoRASpec((module,), weights.spec.r, weights.spec.lora_alpha)
        path = module.path
        yield (
            path,
            LoRAWeights(spec, {path: weights.lora_A[path]}, {path: weights.lora_B[path]}),
        )


def _parts(one: LoRAWeights, form: str) -> Parts:
    """Parts of the only module."""
    path = one.spec.paths[0]
    if form == "factors":
        return {"A": one.lora_A[path], "B": one.lora_B[path]}
    return canonicalize_adapter(one, form).parts[path]


def _update_error(weights: LoRAWeights, back: LoRAWeights, path: str) -> float:
    """Largest relative error of a module's update, formed in float64."""
    first, second = (
        one.lora_B[path].double() @ one.lora_A[path].double() for one in (weights, back)
    )
    size = first.flatten(1).norm(dim=1)
    error = (second - first).flatten(1).norm(dim=1)
    return float(torch.where(size > 0, error / size, error).max())


def _spread(turned: list[Parts]) -> tuple[float, float]:
    """Variance over gauges and mean square, each added up over all entries."""
    variance = square = 0.0
    for name in turned[0]:
        stacked = torch.stack([parts[name] for parts in turned])
        variance += float(stacked.var(0, correction=0).sum())
        square += float(stacked.square().mean(0).sum())
    return variance, square
