"""`llgbm evaluate`: score all arms on examples that nothing was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from llgbm.deltas.atomic import write_json, write_text
from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.errors import RunError, SettingError, mismatch, require_at_least, require_seed
from llgbm.deltas.fingerprint import file_fingerprint, text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probe_names import named_probes
from llgbm.generators.evaluation.arms.context import ArmContext, ArmSettings
from llgbm.generators.evaluation.arms.registry import choose_arms
from llgbm.generators.evaluation.gather import gather_results
from llgbm.generators.evaluation.probe_readings import ProbeReader
from llgbm.generators.evaluation.results import Results
from llgbm.generators.evaluation.table import arms_table
from llgbm.generators.evaluation.task_scores import TaskScorer, TaskScores
from llgbm.generators.evaluation.tasks import EvaluatedTask, evaluated_tasks
from llgbm.generators.generate import find_generator, save_generated
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.probes import check_held_out, trained_cache, trained_probes


@dataclass(frozen=True)
class EvaluateConfig:
    """Score arms on test examples of every task of a run.

    Args:
        run: run folder with teachers, delta cache and a generator.
        generators: names of generators, trained alike with different seeds, that are scored
            together; the run's only one, or `generator`, where none is given.
        beside: names of further generators, whose delta cosines stand beside theirs.
        arms: which arms: `default`, `all`, or names; what the metrics need is always scored.
        examples: test examples scored of each task.
        condition_prompts: test queries that make a task's condition; they are not scored.
        held_out_probes: probes that no generator was trained on, to check behaviour by.
        parse_examples: queries of each task that are answered freely; 0 for none.
        parse_tokens: longest free answer.
        arm_settings: sizes of arms.
        seed: of the random arms, the wrong conditions and the bootstrap.
    """

    run: Path
    generators: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    arms: tuple[str, ...] = ("default",)
    examples: int = 100
    condition_prompts: int = 8
    held_out_probes: str = "commonsense"
    parse_examples: int = 8
    parse_tokens: int = 8
    arm_settings: ArmSettings = field(default_factory=ArmSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            1,
            examples=self.examples,
            condition_prompts=self.condition_prompts,
            parse_tokens=self.parse_tokens,
        )
        require_at_least(0, parse_examples=self.parse_examples)
        require_seed(self.seed)
        choose_arms(self.arms)
        named = [*self.generators, *self.beside]
        if len(set(named)) < len(named):
            raise SettingError(f"generators and beside: expected each once, got {named}")


def evaluate(
    config: EvaluateConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> Results:
    """Score, write results.json, scores.jsonl and the generated adapters, print the table.

    Raises:
        RunError: parts of the run are missing, generators that do not belong together, or
            another base model than the teachers'.
    """
    run = RunFolder(config.run)
    named_probes(config.held_out_probes)  # an unknown name is told before the work
    manifest = Manifest.read(run.manifest)
    names = config.generators or (_only_generator(run),)
    folders = [run.generator(name) for name in names]
    generators = load_generators(folders, manifest, run)
    model, tokenizer = manifest.base(run.manifest, model, tokenizer)
    tasks = evaluated_tasks(manifest, config.condition_prompts, config.examples)
    for item in tasks:
        if len(item.condition.texts) < config.condition_prompts:
            print(
                f"{item.task.name}: condition_prompts: {len(item.condition.texts)} in place of "
                f"{config.condition_prompts}, half of its {len(item.task.test)} test examples"
            )
    metadata = next(iter(generators.values())).metadata
    probes, spec = trained_probes(metadata, folders[0])
    check_held_out(config.held_out_probes, probes)
    cache = DeltaCache.open(
        run.delta_cache(trained_cache(metadata)),
        manifest.base_fingerprint,
        named_probes(probes),
        spec,
        manifest.base_model,
    )
    deltas = cache.load_all({e.id: e.fingerprint for e in manifest.of_split("train")})
    context = ArmContext(
        run,
        manifest,
        generators,
        tasks,
        deltas,
        model,
        tokenizer,
        config.arm_settings,
        config.seed,
    )
    scorer = TaskScorer(
        model,
        tokenizer,
        context,
        choose_arms(config.arms),
        ProbeReader(model, named_probes(config.held_out_probes), spec),
        ProbeReader(model, named_probes(probes), spec),
        config.parse_examples,
        config.parse_tokens,
    )
    key = text_fingerprint(
        {
            "generators": [file_fingerprint(f / "generator.safetensors") for f in folders],
            "teachers": [entry.fingerprint for entry in manifest.adapters],
            "config": json.loads(json.dumps(asdict(config), default=str)),
        }
    )
    scores = _score(scorer, tasks, run, key)
    base = (manifest.base_model, manifest.base_fingerprint)
    for index, item in enumerate(tasks):
        out = run.generated / item.task.name
        save_generated(base, context.outputs[0].weights.select([index]), item.condition, out)
    results = gather_results(
        run,
        manifest,
        [*generators, *config.beside],
        len(generators),
        model,
        scores,
        tasks,
        cache,
        config.held_out_probes,
        config.seed,
    )
    results.write(run.results)
    print(arms_table(results))
    print(f"{run.results}: {results.scale}")
    return results


def _only_generator(run: RunFolder) -> str:
    """Name of the run's one generator, or of the one called `generator`.

    Raises:
        RunError: none, or several of which none is called that.
    """
    names = run.generators
    if len(names) > 1 and "generator" not in names:
        raise RunError(f"{run.root}: generators: expected one, got {names}: add --generators NAME")
    return find_generator(run.root).name


def load_generators(
    folders: Sequence[Path], manifest: Manifest, run: RunFolder
) -> dict[str, LoRAGenerator]:
    """Load generators by name, after checking that they can be scored together.

    Raises:
        RunError: a missing one, another base, or one that writes or predicts something else.
    """
    found: dict[str, LoRAGenerator] = {}
    for folder in folders:
        generator = LoRAGenerator.load(folder)
        if generator.metadata.get("base_fingerprint") != manifest.base_fingerprint:
            raise RunError(f"{folder}: base model: expected the one of {run.manifest}, got another")
        for first in list(found.values())[:1]:
            for what, expected, got in (
                ("spec", first.spec, generator.spec),
                (
                    "probes and deltas",
                    (trained_probes(first.metadata, folders[0]), trained_cache(first.metadata)),
                    (trained_probes(generator.metadata, folder), trained_cache(generator.metadata)),
                ),
            ):
                if expected != got:
                    raise RunError(mismatch(folder, what, f"those of {folders[0].name}", "others"))
        found[folder.name] = generator
    return found


def _score(
    scorer: TaskScorer, tasks: list[EvaluatedTask], run: RunFolder, key: str
) -> list[TaskScores]:
    """Score task by task.

    Finished tasks are kept under `key`, so that an interrupted evaluation goes on after them.
    """
    scores: list[TaskScores] = []
    total = sum(len(item.examples) for item in tasks)
    parts = [run.results.with_name(f".{item.task.name}.json") for item in tasks]
    with tqdm(total=total, desc="evaluation", unit="example", mininterval=1.0) as bar:
        for index, (item, part) in enumerate(zip(tasks, parts, strict=True)):
            kept = read_json(part, RunError) if part.exists() else {}
            if kept.get("key") == key:
                scores.append(TaskScores(**kept["scores"]))
                bar.update(len(item.examples))
                continue
            scores.append(scorer.score(index, bar))
            write_json(part, {"key": key, "scores": asdict(scores[-1])})
    records = [record for item in scores for record in item.records()]
    write_text(run.scores, "".join(json.dumps(record) + "\n" for record in records))
    for part in parts:
        part.unlink(missing_ok=True)
    return scores
