"""`llgbm-bench kernels`: forward and backward of a decoder layer's linears with n adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from llgbm.bench.errors import GateError
from llgbm.bench.layer import LAYERS, Layer, make_layer
from llgbm.bench.layer_rivals import GroupForward, base_alone, definition, layer_rivals
from llgbm.bench.memory import peak_mib
from llgbm.bench.peft_mixed import PeftMixed
from llgbm.bench.results import results_of
from llgbm.bench.roofline import Roofline, layer_needs, measure_roofline
from llgbm.bench.timing import graph_interleaved
from llgbm.deltas.atomic import write_json
from llgbm.deltas.base_models import default_device, default_dtype
from llgbm.deltas.errors import ModelError, SettingError, require_at_least, require_seed

# Largest relative error against float64, of any output or gradient: a few rounding steps of the
# dtype. What separates rivals is the ratio of their errors, which the results hold.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
# Ours may be at most this many times as far from float64 as plain torch in the same dtype.
ERROR_RATIO = 2.0


@dataclass(frozen=True)
class KernelsConfig:
    """Time the seven linears of one decoder layer with n adapters, forward and backward.

    Args:
        shapes: layers to measure; SmolLM2's has its real weights.
        n: adapters.
        rows: rows of each adapter (probes times tokens).
        r: ranks.
        dtype: of weights and activations; `auto` is bfloat16 where the hardware has it.
        repeats: rounds; every rival runs once in each.
        compiled: also torch.compile of the torch rivals (minutes of compiling on a CPU).
        out: JSON file of results; nothing is written where not given.
        seed: of everything random.
    """

    shapes: tuple[str, ...] = ("smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b")
    n: tuple[int, ...] = (1, 4, 8, 32)
    rows: tuple[int, ...] = (200, 640, 2560)
    r: tuple[int, ...] = (4, 8, 16, 64)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    repeats: int = 20
    compiled: bool = False
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("shapes", "n", "rows", "r"):
            if not getattr(self, name):
                raise SettingError(f"{name}: expected at least one, got none")
        require_at_least(1, n=min(self.n), rows=min(self.rows), r=min(self.r), repeats=self.repeats)
        require_seed(self.seed)


def kernels(config: KernelsConfig) -> dict[str, Any]:
    """Check every rival at every size, time them, print tables, write the file.

    Raises:
        GateError: a rival's outputs or gradients are off; what was timed before is kept.
        ModelError: an unknown name of shapes.
    """
    unknown = [name for name in config.shapes if name not in LAYERS]
    if unknown:
        raise ModelError(f"shapes: expected names among {sorted(LAYERS)}, got {unknown}")
    device = default_device()
    dtype = default_dtype(device) if config.dtype == "auto" else getattr(torch, config.dtype)
    roofline = measure_roofline(device, dtype)
    rivals = layer_rivals(device, dtype, config.compiled)
    cases: list[dict[str, Any]] = []
    results = results_of("kernels", config, device, dtype, roofline=asdict(roofline), cases=cases)
    for shapes, r, n, rows in product(config.shapes, config.r, config.n, config.rows):
        layer = make_layer(shapes, n, rows, r, dtype, device, config.seed)
        case: dict[str, Any] = {"shapes": shapes, "n": n, "rows": rows, "r": r}
        case["rivals"] = measure(layer, rivals, roofline, dtype, config.repeats)
        cases.append(case)
        print(table(case), flush=True)
        if config.out is not None:  # after each case: an interrupted run keeps what it has
            write_json(config.out, results)
    return results


def measure(
    layer: Layer,
    rivals: dict[str, GroupForward],
    roofline: Roofline,
    dtype: torch.dtype,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """Gate, memory and times of every rival on one layer."""
    errors = gate(layer, rivals, dtype)
    # A gradient of x alone is what the frozen layer needs: the base has no factors.
    both: dict[str, Callable[[], object]] = {"base_alone": partial(_base_step, layer)}
    forward: dict[str, Callable[[], object]] = {"base_alone": partial(_forward, layer, base_alone)}
    for name, rival in rivals.items():
        both[name] = partial(_step, layer, rival)
        forward[name] = partial(_forward, layer, rival)
    mixed = [PeftMixed(group, float(layer.scaling[0])) for group in layer.groups]
    forward["peft_mixed_batch"] = partial(_mixed, layer, mixed)
    errors["peft_mixed_batch"] = _mixed_error(layer, mixed, dtype)
    peaks = {name: peak_mib(work) for name, work in both.items()}
    timed = graph_interleaved(both, repeats)
    timed_forward = graph_interleaved(forward, repeats)
    least = roofline.least_ms(*layer_needs(layer.widths, layer.n, layer.m, layer.r, dtype.itemsize))
    found: dict[str, dict[str, Any]] = {}
    for name in forward:
        found[name] = {"forward_ms": timed_forward[name].median_ms, "error": errors.get(name)}
        if name in timed:
            milliseconds = timed[name].median_ms
            found[name] |= {
                **asdict(timed[name]),
                "tokens_per_s": layer.n * layer.m / milliseconds * 1e3,
                "adapters_per_s": layer.n / milliseconds * 1e3,
                "times_base": milliseconds / timed["base_alone"].median_ms,
                "roofline_share": least / milliseconds,
                "peak_mib": peaks[name],
            }
    return found


def gate(
    layer: Layer, rivals: dict[str, GroupForward], dtype: torch.dtype
) -> dict[str, float | None]:
    """Relative error of every rival against float64: outputs and all gradients, the largest.

    Raises:
        GateError: above the tolerance of the dtype, or ours above twice plain torch's.
    """
    exact = [
        _flat(definition, group.double(), layer.scaling.double(), torch.float64)
        for group in layer.groups
    ]
    errors: dict[str, float | None] = {}
    for name, rival in rivals.items():
        worst = 0.0
        for group, expected in zip(layer.groups, exact, strict=True):
            for got, value in zip(_flat(rival, group, layer.scaling, dtype), expected, strict=True):
                worst = max(worst, float((got.double() - value).norm() / value.norm()))
        errors[name] = worst
        if not worst <= TOLERANCE[dtype]:
            raise GateError(name, TOLERANCE[dtype], dtype, worst)
    plain = errors.get("eager_bmm")
    for name, error in errors.items():
        if plain and error and name.startswith("ours") and error > ERROR_RATIO * plain:
            raise GateError(name, ERROR_RATIO * plain, dtype, error)
    return errors


def _flat(rival: GroupForward, group: Any, scaling: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Outputs and gradients of x, A and B."""
    outputs = list(rival(group, scaling))
    return [
        *(y.detach() for y in outputs),
        *torch.autograd.grad(outputs, group.wanted(), group.dys),
    ]


def _step(layer: Layer, rival: GroupForward) -> None:
    for group in layer.groups:
        torch.autograd.grad(list(rival(group, layer.scaling)), group.wanted(), group.dys)


def _base_step(layer: Layer) -> None:
    for group in layer.groups:
        torch.autograd.grad(list(base_alone(group, layer.scaling)), group.x, group.dys)


@torch.no_grad()
def _forward(layer: Layer, rival: GroupForward) -> None:
    for group in layer.groups:
        rival(group, layer.scaling)


def _mixed(layer: Layer, mixed: Sequence[PeftMixed]) -> None:
    for group, wrapped in zip(layer.groups, mixed, strict=True):
        wrapped(group)


def _mixed_error(layer: Layer, mixed: Sequence[PeftMixed], dtype: torch.dtype) -> float:
    """Error of PEFT's forward against float64.

    Raises:
        GateError: above the tolerance.
    """
    worst = 0.0
    for group, wrapped in zip(layer.groups, mixed, strict=True):
        with torch.no_grad():
            exact = definition(group.double(), layer.scaling.double())
        for got, value in zip(wrapped(group), exact, strict=True):
            worst = max(worst, float((got.double() - value).norm() / value.norm()))
    if not worst <= TOLERANCE[dtype]:
        raise GateError("peft_mixed_batch", TOLERANCE[dtype], dtype, worst)
    return worst


def table(case: dict[str, Any]) -> str:
    """One case as aligned text."""
    lines = [
        f"{case['shapes']} n={case['n']} rows={case['rows']} r={case['r']}",
        f"{'':<20}{'fwd ms':>9}{'both ms':>9}{'x base':>8}{'roof':>7}{'MiB':>9}{'error':>10}",
    ]
    for name, row in case["rivals"].items():
        error = "-" if row["error"] is None else f"{row['error']:.1e}"
        if "median_ms" in row:
            both = f"{row['median_ms']:>9.3f}{row['times_base']:>8.2f}"
            both += f"{row['roofline_share']:>7.2f}{row['peak_mib']:>9.1f}"
        else:
            both = f"{'-':>9}{'-':>8}{'-':>7}{'-':>9}"
        lines.append(f"{name:<20}{row['forward_ms']:>9.3f}{both}{error:>10}")
    return "\n".join(lines)
