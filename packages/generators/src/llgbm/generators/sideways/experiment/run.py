"""`llgbm experiment sideways`: collect, then fit, propose and measure for several seeds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from llgbm.deltas.environment import environment
from llgbm.deltas.module_files import read_module_config
from llgbm.deltas.spec import device_of
from llgbm.generators.experiments.presets import PresetName
from llgbm.generators.extras import cma_es, fronts
from llgbm.generators.sideways.adapters.blocks import from_blocks
from llgbm.generators.sideways.adapters.collect import collect_adapters
from llgbm.generators.sideways.adapters.measure import GAIN, RETENTION, AdapterMeter, as_rows
from llgbm.generators.sideways.adapters.source import AdapterWorld
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.experiment.fronts import CHOSEN, PROPOSALS, measure_fronts
from llgbm.generators.sideways.experiment.intervals import MEAN, volume_intervals
from llgbm.generators.sideways.experiment.latent_points import latent_points
from llgbm.generators.sideways.experiment.notes import Notes, SeedNote
from llgbm.generators.sideways.experiment.presets import SIDEWAYS_PRESETS, SidewaysPreset
from llgbm.generators.sideways.experiment.results import (
    FrontArm,
    SeedResults,
    SidewaysResults,
)
from llgbm.generators.sideways.experiment.starts import measure_starts, target_of
from llgbm.generators.sideways.experiment.trajectories import end_errors, unseen_trajectories
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.arms import FrontArms
from llgbm.generators.sideways.explore.find_front import FrontSearch
from llgbm.generators.sideways.explore.paths import (
    latent_of,
    latent_path,
    straight_path,
    through_ends,
)
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways
from llgbm.generators.sideways.predict import agreement_on_test_runs
from llgbm.generators.sideways.train import FINISHED, fit_sideways


@dataclass(frozen=True)
class SidewaysExperimentConfig:
    """What the experiment is asked for.

    Args:
        run: folder of the collection and its models.
        preset: sizes.
        out: file of the results; RUN/results.json where None.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of the runs.
        sizes: of your own, in place of the preset's.
    """

    run: Path
    preset: PresetName = "demo"
    out: Path | None = None
    base_model: str = "smollm2-135m"
    seed: int = 0
    sizes: SidewaysPreset | None = None


def run_sideways_experiment(
    config: SidewaysExperimentConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> SidewaysResults:
    """Run, print and write; what was taught, measured or fitted before is not done again.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        tokenizer: of the base.

    Raises:
        RunError: the folder holds a collection of other settings.
        SettingError: an optional package is not installed.
    """
    # What would be missed only after everything was collected.
    fronts()
    cma_es("sideways")
    sizes = config.sizes or SIDEWAYS_PRESETS[config.preset]
    if config.sizes is None:
        runs = replace(sizes.runs, base_model=config.base_model, seed=config.seed)
        sizes = replace(sizes, runs=runs)
    notes = Notes(config.run)
    world = AdapterWorld.of(sizes.runs, model, tokenizer)
    with notes.timed("collect"):
        collection = collect_adapters(config.run / "collection", world)
    # Other tasks tell nothing of a front, and take as long as the task itself.
    meters = world.meter("validation", others=False), world.meter("test", others=False)
    found: dict[str, SeedNote] = {}
    for seed in sizes.seeds:
        depends_on = {**asdict(sizes), "seed": seed, "collection": collection.fingerprint}
        key = Notes.key({name: each for name, each in depends_on.items() if name != "seeds"})
        note = notes.read(seed, key)
        if note is None:
            with notes.timed(f"seed {seed}"):
                note = _seed(config, world, collection, meters, sizes, seed, key)
            notes.write(seed, note)
        found[str(seed)] = note
    numbers = sum(block.numel for block in collection.blocks)
    results = SidewaysResults(
        config.preset,
        f"{sizes.runs.base_model}, {len(collection.checkpoints)} checkpoints of "
        f"{len(collection.runs)} runs on {sizes.runs.task}, {numbers:,} numbers each, measured on "
        f"{sizes.runs.scored} examples and {sizes.runs.texts} texts",
        environment(config.seed, device_of(world.model), next(world.model.parameters()).dtype),
        collection.metrics,
        {seed: note.reference for seed, note in found.items()},
        {seed: note.results for seed, note in found.items()},
        notes.seconds,
        volume_intervals(
            {seed: note.observed for seed, note in found.items()},
            {
                seed: torch.tensor([note.reference[GAIN], note.reference[RETENTION]])
                for seed, note in found.items()
            },
            config.seed,
        ),
    )
    path = config.out or config.run / "results.json"
    results.write(path)
    print(summary(results))
    print(f"{path}: {results.scale}")
    return results


def _seed(
    config: SidewaysExperimentConfig,
    world: AdapterWorld,
    collection: Collection,
    meters: tuple[AdapterMeter, AdapterMeter],
    sizes: SidewaysPreset,
    seed: int,
    key: str,
) -> SeedNote:
    """Fit and measure."""
    validation, test = meters
    model = _fitted(config.run / f"model-{seed}", collection, sizes, seed)
    aims = Aims.of(model, (GAIN, RETENTION), ())
    arms = FrontArms(model, aims, sizes.proposals)
    search = FrontSearch(sizes.proposals, seed=seed)
    fronts = measure_fronts(arms, search, world, validation, test)
    named = {}
    for name, observed in fronts.observed.items():
        measured = as_rows(observed)
        named[name] = FrontArm(arms.volume(measured), tuple(measured))
        print(f"seed {seed}, {name}: hypervolume {named[name].hypervolume:.4f}")
    trajectories = unseen_trajectories(model)
    results = SeedResults(
        agreement_on_test_runs(model),
        named,
        fronts.gaps,
        measure_starts(model, world, validation, sizes.start_steps, sizes.start_every, seed),
        target_of(model),
        end_errors(model, trajectories),
        _path(model, world, test, aims, sizes.path),
        trajectories,
        latent_points(model),
    )
    reference = dict(zip(aims.names, arms.reference.tolist(), strict=True))
    return SeedNote(key, results, reference, fronts.observed)


def _fitted(
    folder: Path, collection: Collection, sizes: SidewaysPreset, seed: int
) -> SidewaysModel:
    training = replace(sizes.training, seed=seed)
    if (folder / FINISHED).exists():
        _, known = read_module_config(folder, "llgbm experiment sideways")
        same = known.get("training") == json.loads(json.dumps(asdict(training)))
        if same and known.get("collection_fingerprint") == collection.fingerprint:
            return load_sideways(folder)
    return fit_sideways(collection, folder, training)


def _path(
    model: SidewaysModel, world: AdapterWorld, meter: AdapterMeter, aims: Aims, steps: int
) -> dict[str, tuple[dict[str, float], ...]]:
    """Both ways between the test checkpoints that gain most and that keep most."""
    places = model.split.places(model.collection, "test")
    points = aims.pick(model.table("test").metrics)
    ends = [places[int(points[:, place].argmax())] for place in range(2)]
    first, last = (model.collection.weights(place) for place in ends)
    z = latent_path(latent_of(model, ends[0]), latent_of(model, ends[1]), steps)
    ways = {
        "latent": through_ends(model, z, first, last),
        "weights": straight_path(first, last, steps),
    }
    return {
        name: tuple(meter.measure(from_blocks(world.spec, blocks))) for name, blocks in ways.items()
    }


def summary(results: SidewaysResults) -> str:
    """The main numbers as lines, means over seeds."""
    seeds = list(results.seeds.values())
    lines = []
    for name in seeds[0].agreement:
        cells = [
            f"{metric} R2 {fmean(seed.agreement[name][metric].r2 for seed in seeds):.3f}"
            for metric in results.metrics
        ]
        lines.append(f"predicted by {name}: " + ", ".join(cells))
    for name, arm in results.volumes[MEAN].items():
        each = ", ".join(f"{seed.fronts[name].hypervolume:.4f}" for seed in seeds)
        lines.append(f"hypervolume of {name}: {arm.volume.mean:.4f} ({each})")
    for name in (PROPOSALS, PROPOSALS + CHOSEN):
        for rival, found in results.volumes[MEAN][name].over.items():
            lines.append(
                f"{name} over {rival}: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            )
    for metric in seeds[0].gaps[0].measured:
        gaps = [gap.predicted[metric] - gap.measured[metric] for s in seeds for gap in s.gaps]
        lines.append(f"predicted minus measured {metric}: {fmean(gaps):+.4f}")
    for name in seeds[0].starts:
        steps = [seed.starts[name].steps for seed in seeds]
        lines.append(f"steps to the target from {name}: {', '.join(map(str, steps))}")
    for name in seeds[0].ends:
        cells = [
            f"{metric} {fmean(seed.ends[name][metric] for seed in seeds):.4f}"
            for metric in results.metrics
        ]
        lines.append(f"error at the end of runs by {name}: " + ", ".join(cells))
    return "\n".join(lines)
