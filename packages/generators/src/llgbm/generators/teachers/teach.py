"""`llgbm teach`: train the teachers of a run, in batches, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import (
    RunError,
    SettingError,
    mismatch,
    require_at_least,
    require_seed,
)
from llgbm.deltas.fingerprint import (
    base_fingerprint,
    text_fingerprint,
)
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.spec import ALL_LINEAR, LoRASpec, device_of
from llgbm.deltas.tasks import load_task
from llgbm.deltas.tensor_state import read_tensors
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.teachers.save import save_teacher
from llgbm.generators.teachers.shards import Shard, ShardData, Split, make_shards

# Tokens of one forward and backward: bounds memory (about 1 MiB a token for 135 M parameters).
TOKENS_AT_ONCE = {"cpu": 2100, "cuda": 65536}


@dataclass(frozen=True)
class TeachConfig:
    """Train teachers on tasks.

    Args:
        run: run folder; a second call goes on where the first stopped.
        tasks: packaged names, JSON/JSONL files or hub data sets.
        held_out: tasks whose whole family the generator must not see; results are told of them.
        validation: tasks of further families that it must not see either; generators are chosen
            by them.
        base_model: `smollm2-135m`, a local folder or a hub id.
        teachers_per_task: teachers of each task.
        data: `disjoint`: teachers of a task share no example; `shared`: each sees all of them, in
            an order of its own, and they come out alike as runs of one fine-tuning do.
        examples_per_teacher: largest shard; 0 takes all.
        r: LoRA rank.
        lora_alpha: LoRA alpha.
        target_modules: names of the adapted linears.
        shared_A: start all teachers from the same A.
        optim: optimiser settings.
        teachers_at_once: teachers in one forward; 0 chooses by tokens.
        save_every: steps between states that a resumed run goes on from.
        keep_every: steps between checkpoints that are kept of every teacher along its way, for
            VAEs to train on beside the teachers; 0 keeps none.
        seed: of initialisation, shards and data order.
    """

    run: Path
    tasks: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    base_model: str = "smollm2-135m"
    teachers_per_task: int = 2
    data: ShardData = "disjoint"
    examples_per_teacher: int = 0
    r: int = 8
    lora_alpha: float = 16.0
    target_modules: tuple[str, ...] = ALL_LINEAR
    shared_A: bool = True
    optim: TeacherOptim = field(default_factory=TeacherOptim)
    teachers_at_once: int = 0
    save_every: int = 10
    keep_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, teachers_per_task=self.teachers_per_task, r=self.r)
        require_at_least(1, save_every=self.save_every)
        require_seed(self.seed)
        require_at_least(
            0,
            keep_every=self.keep_every,
            examples_per_teacher=self.examples_per_teacher,
            teachers_at_once=self.teachers_at_once,
        )
        if not self.tasks:
            raise SettingError("tasks: expected at least one that is not held out, got none")
        if not self.target_modules:
            raise SettingError("target_modules: expected at least one, got none")
        for name in ("held_out", "validation"):
            twice = [task for task in getattr(self, name) if task in self.tasks]
            if twice:
                raise SettingError(f"{name}: expected tasks not among the seen ones, got {twice}")
        both = sorted(set(self.held_out) & set(self.validation))
        if both:
            raise SettingError(f"validation: expected tasks that are not held out, got {both}")

    @property
    def splits(self) -> dict[str, Split]:
        """Split of every task as it was given."""
        return {
            **dict.fromkeys(self.tasks, "train"),
            **dict.fromkeys(self.validation, "validation"),
            **dict.fromkeys(self.held_out, "test"),
        }

    def settings(self) -> dict[str, Any]:
        """What decides the outcome, as JSON; where it runs and how often it saves do not."""
        neutral = ("run", "save_every", "keep_every")
        content = {key: value for key, value in asdict(self).items() if key not in neutral}
        if self.data == "disjoint":  # runs of earlier versions do not name it
            del content["data"]
        return json.loads(json.dumps(content))


def collect_shards(config: TeachConfig) -> list[Shard]:
    """Load every task and deal its training examples out.

    Raises:
        TaskError: an unknown, empty or malformed task.
        RunError: no tasks, a task twice, or a family both seen and held out.
    """
    shards: list[Shard] = []
    split_of_family: dict[str, Split] = {}
    given = [*config.tasks, *config.validation, *config.held_out]
    for name in given:
        split = config.splits[name]
        task = load_task(name, seed=config.seed)
        if split_of_family.setdefault(task.family, split) != split:
            raise RunError(
                f"tasks: expected each family in one of train, validation and test, got "
                f"{task.family!r} in {split_of_family[task.family]} and {split}"
            )
        made = make_shards(task, config.teachers_per_task, split, config.seed, config.data)
        limit = config.examples_per_teacher or None
        shards += [Shard(s.id, s.task, s.family, s.split, s.examples[:limit]) for s in made]
    ids = [shard.id for shard in shards]
    if len(set(ids)) != len(ids):
        raise RunError(f"tasks: expected different names, got {sorted(config.tasks)}")
    return shards


def teach(config: TeachConfig, model: nn.Module | None = None, tokenizer: Any = None) -> Manifest:
    """Train what the run still lacks and return the index of all its teachers.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        tokenizer: of the base.

    Raises:
        RunError: the folder holds teachers made with other settings.
    """
    folder = RunFolder(config.run)
    shards = collect_shards(config)
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    manifest = _open_manifest(folder, config, base_fingerprint(model))
    spec = LoRASpec.from_model(model, config.r, config.lora_alpha, config.target_modules)
    # Groups depend on the device: what is done stays, whoever it was trained beside.
    done = {entry.id for entry in manifest.adapters}
    left = [shard for shard in shards if shard.id not in done]
    groups = _groups(left, config, tokenizer, device_of(model)) if left else []
    bar = tqdm(
        total=len(groups) * config.optim.steps, desc="teachers", unit="step", mininterval=1.0
    )
    with bar:
        for group in groups:
            teachers = BatchedTeachers(
                model,
                tokenizer,
                group,
                initial_adapters(spec, shards, group, config),
                config.optim,
                config.seed,
            )
            together = text_fingerprint([shard.id for shard in group])[:12]
            state = folder.checkpoints / f".state-{together}.safetensors"
            losses = _train(teachers, state, config, folder, manifest, bar)
            entries = _save(folder, group, teachers.weights, losses, manifest)
            manifest = Manifest(
                manifest.base_model,
                manifest.base_fingerprint,
                manifest.settings,
                (*manifest.adapters, *entries),
            )
            manifest.write(folder.manifest)
            state.unlink(missing_ok=True)
    return manifest


def teach_command(config: TeachConfig) -> None:
    """Train teachers and name the command that comes next."""
    manifest = teach(config)
    folder = RunFolder(config.run).checkpoints
    print(f"{folder}: {len(manifest.adapters)} teachers; next: llgbm-deltas compute {folder}")


def _open_manifest(folder: RunFolder, config: TeachConfig, base: str) -> Manifest:
    """Read the index of a run that goes on, or begin one."""
    if not folder.manifest.exists():
        return Manifest(config.base_model, base, config.settings())
    manifest = Manifest.read(folder.manifest)
    settings = config.settings()
    for key in sorted(settings.keys() | manifest.settings.keys()):
        expected, got = manifest.settings.get(key), settings.get(key)
        if expected != got:
            raise RunError(
                mismatch(folder.manifest, key, f"{expected} as in the run so far", got)
                + "; choose another run folder for other settings"
            )
    if manifest.base_fingerprint != base:
        raise RunError(mismatch(folder.manifest, "base model", manifest.base_fingerprint, base))
    # A teacher whose folder is gone is taught again.
    there = tuple(e for e in manifest.adapters if (folder.checkpoints / e.path).is_dir())
    return replace(manifest, adapters=there)


def _groups(
    shards: Sequence[Shard], config: TeachConfig, tokenizer: Any, device: torch.device
) -> list[list[Shard]]:
    """Split the teachers into groups whose steps fit the token limit."""
    size = config.teachers_at_once
    if size:
        return [list(shards[i : i + size]) for i in range(0, len(shards), size)]
    limit = TOKENS_AT_ONCE[device.type if device.type in TOKENS_AT_ONCE else "cpu"]
    groups: list[list[Shard]] = [[]]
    used = 0.0
    for shard in shards:
        sample = shard.examples[:32]
        texts = [example.query + example.choices[example.gold] for example in sample]
        lengths = [
            min(len(tokenizer(text)["input_ids"]), config.optim.max_tokens) for text in texts
        ]
        tokens = config.optim.examples_per_step * sum(lengths) / len(lengths)
        if groups[-1] and used + tokens > limit:
            groups.append([])
            used = 0.0
        groups[-1].append(shard)
        used += tokens
    return groups


def initial_adapters(
    spec: LoRASpec, shards: Sequence[Shard], group: Sequence[Shard], config: TeachConfig
) -> LoRAWeights:
    """Initial adapters of a group: a teacher's do not depend on its company."""
    ids = [shard.id for shard in shards]
    generators = [
        torch.Generator().manual_seed(config.seed + (0 if config.shared_A else 1 + ids.index(s.id)))
        for s in group
    ]
    return LoRAWeights.concatenate([LoRAWeights.initial(spec, 1, g) for g in generators])


def _train(
    teachers: BatchedTeachers,
    state: Path,
    config: TeachConfig,
    folder: RunFolder,
    manifest: Manifest,
    bar: tqdm,
) -> Tensor:
    """Run a group to its end, from its saved state where there is one; losses [steps, n]."""
    losses = torch.full((config.optim.steps, len(teachers.shards)), float("nan"))
    if state.exists():
        tensors = read_tensors(state)
        losses = tensors.pop("losses")
        teachers.load_state(tensors)
        bar.update(teachers.step)
    while teachers.step < config.optim.steps:
        step = teachers.step
        losses[step], batch = teachers.train_step()
        bar.update()
        bar.set_postfix(
            loss=f"{losses[step].mean():.3f}", padding=f"{batch.padding_share:.0%}", refresh=False
        )
        if teachers.step == config.optim.steps:
            break
        # Before the state: what is resumed from it has been kept.
        if config.keep_every and teachers.step % config.keep_every == 0:
            _keep(folder, teachers, manifest)
        if teachers.step % config.save_every == 0:
            save_tensors(state, {**teachers.state(), "losses": losses})
    return losses


def _keep(folder: RunFolder, teachers: BatchedTeachers, manifest: Manifest) -> None:
    """Write every adapter of a group as it stands on its way."""
    weights = teachers.weights.to("cpu")
    for index, shard in enumerate(teachers.shards):
        path = folder.trajectories / shard.task / shard.id / f"step_{teachers.step:05d}"
        if not path.exists():
            save_adapter(
                weights.select([index]),
                path,
                base_model_name=manifest.base_model,
                base_fingerprint=manifest.base_fingerprint,
            )


def _save(
    folder: RunFolder,
    group: Sequence[Shard],
    weights: LoRAWeights,
    losses: Tensor,
    manifest: Manifest,
) -> list[TeacherEntry]:
    """Write each adapter of a group as a PEFT folder with its prompts."""
    weights = weights.to("cpu")
    weights.check_finite("teachers")
    return [
        save_teacher(
            folder,
            shard,
            weights.select([index]),
            losses[:, index].tolist(),
            manifest.base_model,
            manifest.base_fingerprint,
        )
        for index, shard in enumerate(group)
    ]
