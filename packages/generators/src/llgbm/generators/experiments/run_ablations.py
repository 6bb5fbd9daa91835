"""Train every variant of an ablation, measure them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from llgbm.deltas.atomic import write_json
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.environment import device_name, environment
from llgbm.deltas.errors import RunError, SettingError, require_seed
from llgbm.deltas.json_files import read_json
from llgbm.deltas.spec import device_of
from llgbm.generators.experiments.ablation_results import (
    METRICS,
    AblationResults,
    VariantResult,
    resampled,
    values_of,
)
from llgbm.generators.experiments.ablation_table import ablation_table
from llgbm.generators.experiments.equal_time import steps_within
from llgbm.generators.experiments.measure import Measured, measure
from llgbm.generators.experiments.prepare import (
    prepare_teachers,
    preset_training,
    validated_five_times,
)
from llgbm.generators.experiments.prepared import Prepared
from llgbm.generators.experiments.presets import PRESETS, ExperimentPreset, PresetName
from llgbm.generators.experiments.variants import ABLATIONS, Ablation
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.train import train


@dataclass(frozen=True)
class AblationConfig:
    """Answer one question about the method.

    Args:
        name: of the ablation, of ABLATIONS.
        preset: sizes: `demo` (minutes), `small` (an hour on two cores), `gpu`.
        run: run folder; experiments of one preset share its teachers. runs/PRESET-experiments
            where not given. A second call goes on where the first stopped.
        out: file that the results are copied to.
        variants: names of those to run beside the reference; all where not given.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of teachers and data; generators count up from it.
    """

    name: str
    preset: PresetName = "demo"
    run: Path | None = None
    out: Path | None = None
    variants: tuple[str, ...] = ()
    base_model: str = "smollm2-135m"
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        known = sorted(ABLATIONS)
        if self.name not in ABLATIONS:
            raise SettingError(f"experiment: expected one of {known}, got {self.name!r}")
        expected = list(ABLATIONS[self.name].variants)
        unknown = [name for name in self.variants if name not in expected]
        if unknown:
            raise SettingError(f"variants: expected among {expected}, got {unknown}")

    @property
    def ablation(self) -> Ablation:
        """The ablation, with the chosen variants."""
        whole = ABLATIONS[self.name]
        if not self.variants:
            return whole
        reference = next(iter(whole.variants))
        chosen = {
            name: change
            for name, change in whole.variants.items()
            if name in (reference, *self.variants)
        }
        return replace(whole, variants=chosen)


def run_ablations(
    config: AblationConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> AblationResults:
    """Run an ablation, write its results.json, print its table.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        tokenizer: of the base.

    Raises:
        RunError: the run folder holds other teachers, or variants with other settings.
        TaskError: a family without data.
    """
    preset, ablation = PRESETS[config.preset], config.ablation
    root = config.run or Path("runs") / f"{config.preset}-experiments"
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    print(f"{config.name}: {ablation.question} ({config.preset}, run folder {root})")
    finished: dict[str, list[dict[str, Any]]] = {}
    by_split: dict[str, dict[str, list[Measured]]] = {}
    for separate in (False, True):
        names = [name for name in ablation.variants if (name in ablation.separate_A) == separate]
        if not names:
            continue
        run = RunFolder(Path(f"{root}-separate-A") if separate else root)
        manifest = prepare_teachers(
            preset, run, config.base_model, config.seed, model, tokenizer, not separate
        )
        prepared = Prepared(run, manifest, model)
        trained = {name: _train(config, preset, prepared, name) for name in names}
        generators = [generator for folder in trained.values() for generator in folder]
        found = measure(run, manifest, model, tokenizer, generators, preset.examples, config.seed)
        for name, folder in trained.items():
            finished[name] = [
                read_json(run.generator(generator) / FINISHED, RunError) for generator in folder
            ]
            for split, values in found.items():
                by_split.setdefault(split, {})[name] = [values[generator] for generator in folder]
    results = AblationResults(
        config.name,
        ablation.question,
        _scale(config, preset),
        environment(config.seed, device_of(model), next(model.parameters()).dtype),
        next(iter(ablation.variants)),
        _variants(ablation, finished, by_split, config.seed),
    )
    path = root / "experiments" / f"{config.name}.json"
    results.write(path)
    if config.out is not None:
        results.write(config.out)
    print(ablation_table(results))
    print(f"{config.out or path}: {results.scale}")
    return results


def _train(
    config: AblationConfig, preset: ExperimentPreset, prepared: Prepared, variant: str
) -> list[str]:
    """Train a variant's generators, one a seed; returns their names."""
    ablation, names = config.ablation, []
    for seed in range(config.seed, config.seed + preset.seeds):
        name = generator_name(config.name, variant, seed)
        base = preset_training(preset, prepared.run, name, prepared.model, seed)
        change = ablation.variants[variant]
        changed = prepared.cached(change(base))
        inputs = prepared.inputs(changed)
        if ablation.equal_time:
            steps = _steps_at_equal_time(config, preset, prepared, variant, changed)
            changed = prepared.cached(change(replace(base, steps=steps)))
        train(validated_five_times(changed), prepared.model, inputs)
        names.append(name)
    return names


def _steps_at_equal_time(
    config: AblationConfig,
    preset: ExperimentPreset,
    prepared: Prepared,
    variant: str,
    training: TrainConfig,
) -> int:
    """Steps of a variant, measured once and kept: seeds and resumed runs have the same."""
    run, model = prepared.run, prepared.model
    path = run.experiments / f"{config.name}-steps.json"
    # Steps in so many seconds on this device: another allows other steps.
    machine = f"{preset.equal_seconds:g} s on {device_name(device_of(model))}"
    measured: dict[str, dict[str, int]] = read_json(path, RunError) if path.exists() else {}
    known = measured.setdefault(machine, {})
    if variant not in known:
        inputs = prepared.inputs(training)
        known[variant] = steps_within(training, preset.equal_seconds, inputs, model, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measured)
        print(f"{variant}: {known[variant]} steps in {preset.equal_seconds:g} s")
    return int(known[variant])


def _variants(
    ablation: Ablation,
    finished: Mapping[str, Sequence[Mapping[str, Any]]],
    by_split: Mapping[str, Mapping[str, Sequence[Measured]]],
    seed: int,
) -> dict[str, VariantResult]:
    """Intervals of every variant, and of its difference from the first."""
    reference = next(iter(ablation.variants))
    found = {}
    for name in ablation.variants:
        metrics: dict[str, dict[str, Any]] = {}
        over: dict[str, dict[str, Any]] = {}
        for split, values in by_split.items():
            for metric in METRICS:
                mine = values_of(values[name], metric)
                theirs = values_of(values[reference], metric)
                if mine is None or theirs is None:
                    continue
                metrics.setdefault(split, {})[metric] = resampled(mine, seed)
                if name != reference:
                    over.setdefault(split, {})[metric] = resampled(
                        [a - b for a, b in zip(mine, theirs, strict=True)], seed
                    )
        done = finished[name]
        found[name] = VariantResult(
            int(done[0]["steps"]),
            sum(float(item["seconds"]) for item in done) / len(done),
            sum(int(item["steps_on_probes"]) for item in done) / len(done),
            sum(int(item["steps_on_tasks"]) for item in done) / len(done),
            len(done),
            metrics,
            over,
        )
    return found


def generator_name(ablation: str, variant: str, seed: int) -> str:
    """Name of the generator of a variant and a seed."""
    plain = "".join(c if c.isalnum() else "-" for c in variant).strip("-").replace("--", "-")
    return f"{ablation}-{plain}-s{seed}"


def _scale(config: AblationConfig, preset: ExperimentPreset) -> str:
    return (
        f"{config.base_model}, preset {config.preset}: {len(preset.tasks)} seen tasks, "
        f"{len(preset.validation)} validation tasks, {preset.teachers_per_task} teachers each, "
        f"{preset.seeds} seeds, at most {preset.examples} validation examples a task; packaged "
        "evaluation data split again, fixed seed"
    )
