"""Fronts of one split: what each arm names, on test examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from tqdm import tqdm

from llgbm.generators.sideways.adapters.blocks import from_blocks
from llgbm.generators.sideways.adapters.measure import AdapterMeter, Observed
from llgbm.generators.sideways.adapters.source import AdapterWorld
from llgbm.generators.sideways.experiment.results import Gap
from llgbm.generators.sideways.explore.anchored import Blocks, concatenate, separate, together
from llgbm.generators.sideways.explore.arms import INTERPOLATION, FrontArms
from llgbm.generators.sideways.explore.find_front import FrontSearch, find_candidates
from llgbm.generators.sideways.explore.meter import AdaptersMeter
from llgbm.generators.sideways.explore.proposals import measure_blocks, measure_latents

PROPOSALS, CHOSEN = "proposals", ", chosen as measured"


@dataclass(frozen=True)
class Fronts:
    """Of one split.

    Attributes:
        observed: arm -> what it names, on test examples.
        gaps: of all candidates, on the examples that training metrics were measured on.
    """

    observed: Mapping[str, Observed]
    gaps: tuple[Gap, ...]


def measure_fronts(
    arms: FrontArms,
    search: FrontSearch,
    world: AdapterWorld,
    validation: AdapterMeter,
    test: AdapterMeter,
) -> Fronts:
    """Search, choose, and measure what every arm names.

    Proposals and interpolation are there twice: as predicted and half way, and the best of
    `tried` times as many candidates as measured on validation examples.

    Args:
        arms: of the split.
        search: of proposals.
        world: base and task.
        validation: meter to choose by.
        test: meter of what was chosen.
    """
    model = arms.model
    found = find_candidates(model, arms.aims, search)
    tried = concatenate(found)
    meter = AdaptersMeter(world, meter=validation)
    measured = measure_latents(model, tried, meter)
    chosen = tried.select(arms.best(measured))
    between = arms.between(search.proposals * search.tried)
    best_between = arms.best(measure_blocks(meter, arms.read(between)))
    named: dict[str, Callable[[], list[Blocks]]] = {
        PROPOSALS: lambda: separate(found[0].weights(model)),
        INTERPOLATION: lambda: arms.read(arms.between(search.proposals)),
        PROPOSALS + CHOSEN: lambda: separate(chosen.weights(model)),
        INTERPOLATION + CHOSEN: lambda: arms.read([between[row] for row in best_between]),
        **arms.baselines(found[0], search.seed),
    }
    with torch.no_grad():
        predicted = tried.predict(model)[0].tolist()
    gaps = []
    for guess, each in zip(predicted, measured, strict=True):
        guesses = dict(zip(model.metrics, guess, strict=True))
        both = [name for name in model.metrics if name in each]
        gaps.append(Gap({m: guesses[m] for m in both}, {m: each[m] for m in both}))
    observed = {}
    for name, read in tqdm(named.items(), desc="fronts", unit="arm", mininterval=1.0):
        observed[name] = test.observe(from_blocks(world.spec, together(read())))
    return Fronts(observed, tuple(gaps))
