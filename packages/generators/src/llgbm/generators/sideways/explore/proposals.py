"""Latents that were looked for: decoded, written, and measured where asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas import atomic
from llgbm.deltas.atomic import write_json
from llgbm.generators.sideways.explore.anchored import Anchored, together
from llgbm.generators.sideways.explore.meter import Meter
from llgbm.generators.sideways.explore.output import INDEX
from llgbm.generators.sideways.model.files import SidewaysModel

# Decoded checkpoints that are held at once.
AT_ONCE = 8


@dataclass(frozen=True)
class Proposal:
    """One latent.

    Attributes:
        name: of it, and of its folder where it is written.
        predicted: metrics.
        error: standard errors of these.
        measured: the same metrics of the decoded checkpoint; None where nobody measured.
        z: the latent.
        anchor: share of each checkpoint RUN/STEP in the weights that it changes.
    """

    name: str
    predicted: Mapping[str, float]
    error: Mapping[str, float]
    measured: Mapping[str, float] | None
    z: tuple[float, ...]
    anchor: Mapping[str, float]

    @property
    def gap(self) -> dict[str, float]:
        """Predicted minus measured; empty where nobody measured."""
        if self.measured is None:
            return {}
        return {name: value - self.measured[name] for name, value in self.predicted.items()}


def propose(
    model: SidewaysModel,
    names: Sequence[str],
    latents: Anchored,
    measured: Sequence[Mapping[str, float]] | None = None,
) -> list[Proposal]:
    """Predict metrics of n latents, beside what was measured of them where somebody did."""
    with torch.no_grad():
        mean, error = latents.predict(model)
    return [
        Proposal(
            name,
            dict(zip(model.metrics, mean[row].tolist(), strict=True)),
            dict(zip(model.metrics, error[row].tolist(), strict=True)),
            None if measured is None else {key: measured[row][key] for key in model.metrics},
            tuple(latents.z[row].tolist()),
            anchor,
        )
        for row, (name, anchor) in enumerate(zip(names, latents.names(model), strict=True))
    ]


def measure_latents(
    model: SidewaysModel, latents: Anchored, meter: Meter
) -> list[dict[str, float]]:
    """Decode and measure latents, a few at a time."""
    found: list[dict[str, float]] = []
    for start in range(0, len(latents), AT_ONCE):
        rows = range(start, min(start + AT_ONCE, len(latents)))
        found += meter.measure(latents.select(rows).weights(model))
    return found


def measure_blocks(
    meter: Meter, checkpoints: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, float]]:
    """Measure checkpoints of blocks [*shape], a few at a time."""
    found: list[dict[str, float]] = []
    for start in range(0, len(checkpoints), AT_ONCE):
        found += meter.measure(together(checkpoints[start : start + AT_ONCE]))
    return found


def write_proposals(
    model: SidewaysModel,
    proposals: Sequence[Proposal],
    latents: Anchored,
    meter: Meter,
    out: Path,
    overwrite: bool,
) -> None:
    """Write each decoded checkpoint and what is in the folder; the folder appears whole.

    Raises:
        FileExistsError: `out` exists and is not to be replaced.
    """
    with atomic.folder(out, replace=overwrite) as new:
        for row, proposal in enumerate(proposals):
            blocks = latents.select([row]).weights(model)
            meter.write({name: each[0] for name, each in blocks.items()}, new / proposal.name)
        write_json(new / INDEX, {"proposals": [as_json(each) for each in proposals]})


def as_json(proposal: Proposal) -> dict[str, object]:
    """A proposal with its gap."""
    return {
        "name": proposal.name,
        "predicted": dict(proposal.predicted),
        "error": dict(proposal.error),
        "measured": None if proposal.measured is None else dict(proposal.measured),
        "predicted_minus_measured": proposal.gap,
        "z": list(proposal.z),
        "anchor": dict(proposal.anchor),
    }


def proposal_table(proposals: Sequence[Proposal]) -> str:
    """Proposals as aligned text: predicted with its error, measured, and the difference."""
    metrics = list(proposals[0].predicted)
    width = max(len(each.name) for each in proposals)
    heads = "".join(f"  {name:>18}" + f"{'measured':>10}{'pred-meas':>11}" for name in metrics)
    lines = [f"{'':<{width}}{heads}"]
    for each in proposals:
        cells = ""
        for name in metrics:
            cells += f"  {each.predicted[name]:9.3f} ± {each.error[name]:6.3f}"
            if each.measured is None:
                cells += f"{'-':>10}{'-':>11}"
            else:
                cells += f"{each.measured[name]:10.3f}{each.gap[name]:+11.3f}"
        lines.append(f"{each.name:<{width}}{cells}")
    return "\n".join(lines)
