"""`llgbm import`: adapters that were trained elsewhere become the teachers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from llgbm.deltas.adapter_folders import CONFIG
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, SettingError, mismatch, require_seed
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.task import Task
from llgbm.deltas.tasks import load_task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dnd.teacher_files import load_dnd_teacher
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.teachers.save import save_teacher
from llgbm.generators.teachers.shards import Shard, Split
from llgbm.generators.teachers.teach import TeachConfig

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ImportConfig:
    """Make a run of adapters that were trained elsewhere.

    Conditions are drawn from the tasks' training examples, whatever the adapters were trained on.

    Args:
        adapters: folder with a folder of every task; in it PEFT folders, or bare files
            STEP.safetensors such as DnD's teachers.
        run: new run folder.
        tasks: FOLDER=TASK for each: a packaged name, a JSON/JSONL file or a hub data set. FOLDER
            alone where it is called as the task.
        held_out: the same for tasks whose family the generator must not see.
        validation: the same for tasks that generators are chosen by.
        base_model: that the adapters are for: `smollm2-135m`, a local folder or a hub id.
        lora_alpha: of bare files; 0 for twice their rank, as DnD's have.
        seed: of the tasks' splits.
    """

    adapters: Annotated[Path, tyro.conf.Positional]
    run: Path
    tasks: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    base_model: str = "smollm2-135m"
    lora_alpha: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if not self.tasks:
            raise SettingError("tasks: expected at least one that is not held out, got none")
        if not self.lora_alpha >= 0:
            raise SettingError(f"lora_alpha: expected at least 0, got {self.lora_alpha:g}")

    @property
    def splits(self) -> dict[Split, tuple[str, ...]]:
        """Tasks as given, by split."""
        return {"train": self.tasks, "validation": self.validation, "test": self.held_out}


def import_adapters(config: ImportConfig) -> Manifest:
    """Copy every adapter into the run with its prompts, and write the index.

    Raises:
        RunError: the run has teachers already, or a folder is missing or holds no adapter.
        AdapterError: an adapter that cannot be read, of another base, or unlike the first.
        TaskError: an unknown, empty or malformed task.
    """
    run = RunFolder(config.run)
    if run.manifest.exists():
        raise RunError(f"{run.manifest}: expected a new run folder, got one with teachers")
    given = [(split, *_named(word)) for split, words in config.splits.items() for word in words]
    folders = [folder for _, folder, _ in given]
    if len(set(folders)) < len(folders):
        raise RunError(f"tasks: expected each folder once, got {folders}")
    tasks = {source: load_task(source, seed=config.seed) for _, _, source in given}
    found = {folder: _adapters(config.adapters / folder) for _, folder, _ in given}
    _check_families({split: [tasks[s] for p, _, s in given if p == split] for split, _, _ in given})
    model, _ = load_base_model(config.base_model)
    base = base_fingerprint(model)
    entries: list[TeacherEntry] = []
    first: LoRAWeights | None = None
    with tqdm(total=sum(map(len, found.values())), desc="adapters", unit="adapter") as bar:
        for split, folder, source in given:
            task = tasks[source]
            for index, path in enumerate(found[folder]):
                weights = _read(path, config, base)
                if first is None:
                    weights.spec.check_model(model, path)
                    first = weights
                elif weights.spec != first.spec:
                    raise RunError(mismatch(path, "spec", first.spec, weights.spec))
                name = f"{task.name}_{index:03d}"
                shard = Shard(name, task.name, task.family, split, tuple(task.train))
                entries.append(save_teacher(run, shard, weights, (), config.base_model, base))
                bar.update()
    assert first is not None
    manifest = Manifest(config.base_model, base, _settings(config, first), tuple(entries))
    manifest.write(run.manifest)
    return manifest


def import_command(config: ImportConfig) -> None:
    """Import, and name the command that comes next."""
    manifest = import_adapters(config)
    folder = RunFolder(config.run).checkpoints
    print(f"{folder}: {len(manifest.adapters)} teachers; next: llgbm-deltas compute {folder}")


def _named(word: str) -> tuple[str, str]:
    """Folder and task of `FOLDER=TASK`, or of a name that is both."""
    folder, _, task = word.partition("=")
    return folder, task or folder


def _adapters(folder: Path) -> list[Path]:
    """PEFT folders below a task's folder, and bare files in it; steps in their order."""
    if not folder.is_dir():
        raise RunError(f"{folder}: expected the folder of a task's adapters, got none")
    inside = [path.parent for path in folder.rglob(CONFIG)]
    bare = [path for path in folder.glob(f"*{SUFFIX}") if not (folder / CONFIG).exists()]
    if not inside and not bare:
        raise RunError(mismatch(folder, "adapters", f"PEFT folders or *{SUFFIX}", "none"))
    return sorted([*inside, *bare], key=lambda path: (len(path.name), str(path)))


def _read(path: Path, config: ImportConfig, base: str) -> LoRAWeights:
    if path.is_dir():
        check_base(path, base, config.base_model)
        return load_adapter(path)
    return load_dnd_teacher(path, config.lora_alpha or None)


def _check_families(tasks: Mapping[Split, list[Task]]) -> None:
    """Raise RunError where a family is in two splits, or a task is given twice."""
    seen: dict[str, Split] = {}
    names: set[str] = set()
    for split, several in tasks.items():
        for task in several:
            if seen.setdefault(task.family, split) != split or task.name in names:
                raise RunError(
                    "tasks: expected each once, and each family in one of train, validation and "
                    f"test, got {task.name} ({task.family}) again"
                )
            names.add(task.name)


def _settings(config: ImportConfig, adapter: LoRAWeights) -> dict[str, object]:
    """What the run's readers need; `imported` tells that nothing here was trained by `teach`."""
    sources = {
        split: tuple(_named(word)[1] for word in words) for split, words in config.splits.items()
    }
    spec = adapter.spec
    described = TeachConfig(
        config.run,
        sources["train"],
        sources["test"],
        sources["validation"],
        config.base_model,
        r=spec.r,
        lora_alpha=spec.lora_alpha,
        seed=config.seed,
    )
    return {**described.settings(), "imported": str(config.adapters)}
