"""How sure hypervolumes are: intervals over test examples and texts, all splits on the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from llgbm.deltas.bootstrap import Interval
from llgbm.generators.sideways.adapters.measure import Observed
from llgbm.generators.sideways.experiment.fronts import CHOSEN
from llgbm.generators.sideways.experiment.results import ArmVolume
from llgbm.generators.sideways.explore.arms import CHECKPOINTS, INTERPOLATION
from llgbm.generators.sideways.explore.front import hypervolume

RESAMPLES = 1000
RIVALS = (CHECKPOINTS, INTERPOLATION, INTERPOLATION + CHOSEN)
MEAN = "mean"


def volume_intervals(
    fronts: Mapping[str, Mapping[str, Observed]], references: Mapping[str, Tensor], seed: int
) -> dict[str, dict[str, ArmVolume]]:
    """Hypervolumes by split and arm, and their mean over splits, with 95% intervals.

    Examples and texts are resampled, the same for all arms and splits: intervals speak of other
    examples, not of other runs.

    Args:
        fronts: split -> arm -> what it names, all on the same examples and texts.
        references: split -> gain and retention that its volumes are counted from, [2].
        seed: of the resampling.
    """
    some = next(iter(next(iter(fronts.values())).values()))
    generator = torch.Generator().manual_seed(seed)
    examples, texts = (
        _counts(count, generator) for count in (some.gained.shape[1], len(some.tokens))
    )
    volumes = {
        split: {
            arm: _volumes(observed, examples, texts, references[split])
            for arm, observed in arms.items()
        }
        for split, arms in fronts.items()
    }
    names = list(next(iter(volumes.values())))
    volumes[MEAN] = {
        arm: torch.stack([volumes[split][arm] for split in fronts]).mean(0) for arm in names
    }
    count = some.gained.shape[1]
    return {
        split: {
            arm: ArmVolume(
                _interval(found, count),
                {
                    rival: _interval(found - arms[rival], count)
                    for rival in RIVALS
                    if rival != arm and rival in arms
                },
            )
            for arm, found in arms.items()
        }
        for split, arms in volumes.items()
    }


def _counts(count: int, generator: torch.Generator) -> Tensor:
    """How often each of `count` is drawn, [1 + resamples, count]; the first draws each once."""
    drawn = torch.randint(count, (RESAMPLES, count), generator=generator)
    counts = torch.zeros(RESAMPLES, count).scatter_add_(1, drawn, torch.ones(drawn.shape))
    return torch.cat([torch.ones(1, count), counts])


def _volumes(observed: Observed, examples: Tensor, texts: Tensor, reference: Tensor) -> Tensor:
    """[1 + resamples]."""
    gain = observed.gained @ examples.T / examples.sum(1)
    retention = -(observed.lost @ texts.T) / (texts @ observed.tokens.float())
    points = torch.stack([gain.T, retention.T], -1)
    return torch.tensor([hypervolume(each, reference) for each in points])


def _interval(values: Tensor, count: int) -> Interval:
    """Of [1 + resamples]; the first is what was measured."""
    low, high = values[1:].quantile(torch.tensor([0.025, 0.975])).tolist()
    return Interval(float(values[0]), low, high, count)
