"""DnDCheckpointDataset: adapters from a folder of DnD's generators and teachers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dnd.checkpoint_names import (
    GENERATOR_SUFFIX,
    TEACHER_SUFFIX,
    CheckpointInfo,
    parse_generator_name,
    parse_teacher_name,
)
from llgbm.generators.dnd.coding import Coding
from llgbm.generators.dnd.dnd_coding import DnDCoding
from llgbm.generators.dnd.generator_files import load_dnd_generator
from llgbm.generators.dnd.layout import SCALE_CELLS, TokenLayout
from llgbm.generators.dnd.teacher_files import load_dnd_teacher
from llgbm.generators.dnd.tokenizer import WeightTokenizer


@dataclass(frozen=True)
class GeneratorReader:
    """Reads adapters off a generator file: load, run on a condition, detokenize.

    Args:
        spec: of the adapters that the generators write.
        conditions: by task, [b, prompts, tokens, width], as `dnd_conditions` gives them.
        coding: of the tokens; DnD's for published files.
        device: where generators run; a published one takes minutes on a CPU.
    """

    spec: LoRASpec
    conditions: Mapping[str, Tensor]
    coding: Coding = field(default_factory=DnDCoding)
    device: torch.device | str = "cpu"

    def read(self, info: CheckpointInfo) -> LoRAWeights:
        """Return n = b adapters, on the CPU.

        Raises:
            RunError: a task without a condition, a damaged file, or a generator of tokens that
                are not those of the spec.
            SettingError: a condition of another shape than the generator's.
            AdapterError: the generator writes NaN or Inf.
        """
        if info.task not in self.conditions:
            known = sorted(self.conditions)
            raise RunError(mismatch(info.path, "task", f"one with a condition, {known}", info.task))
        decoder = load_dnd_generator(info.path).decoder
        tokens = decoder.config.features[-1]
        width = tokens[2] - SCALE_CELLS
        # An odd width has no layout at all; the nearest even one then differs, as it must.
        layout = TokenLayout.from_spec(self.spec, max(2, width - width % 2))
        if layout.shape != tokens:
            raise RunError(
                mismatch(info.path, "tokens (N, H, W)", f"{layout.shape} of the spec", tokens)
            )
        with torch.no_grad():
            condition = self.conditions[info.task].float().to(self.device)
            written = decoder.to(self.device)(condition).cpu()
        weights = WeightTokenizer(layout, self.coding).detokenize(written)
        weights.check_finite(info.path)
        return weights


@dataclass(frozen=True)
class TeacherReader:
    """Reads a teacher file.

    Args:
        lora_alpha: of the teachers; twice the rank where None, as published.
    """

    lora_alpha: float | None = None

    def read(self, info: CheckpointInfo) -> LoRAWeights:
        """Return one adapter; see `load_dnd_teacher`."""
        return load_dnd_teacher(info.path, self.lora_alpha)


@dataclass(frozen=True)
class CheckpointItem:
    """One file's adapters and what its name says."""

    info: CheckpointInfo
    weights: LoRAWeights


class DnDCheckpointDataset(Dataset[CheckpointItem]):
    """Files of a folder and those below it, by task and step; a file is read when asked for.

    Generators are `MODEL__TASK[step].pth`, teachers `TASK/STEP.safetensors`.

    Args:
        folder: searched recursively.
        generators: how to read generator files; only their names are read where None.
        teachers: how to read teacher files.

    Raises:
        RunError: no such folder, no file of either kind, or a name of another form.
    """

    def __init__(
        self,
        folder: Path | str,
        generators: GeneratorReader | None = None,
        teachers: TeacherReader = TeacherReader(),
    ) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise RunError(mismatch(folder, "checkpoints", "a folder", "none"))
        infos = [parse_generator_name(path) for path in folder.rglob(f"*{GENERATOR_SUFFIX}")]
        infos += [parse_teacher_name(path) for path in folder.rglob(f"*{TEACHER_SUFFIX}")]
        if not infos:
            expected = f"files *{GENERATOR_SUFFIX} or *{TEACHER_SUFFIX}"
            raise RunError(mismatch(folder, "checkpoints", expected, "none"))
        self.infos = tuple(sorted(infos, key=_order))
        self.generators, self.teachers = generators, teachers

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> CheckpointItem:
        """Read one file.

        Raises:
            RunError: a generator file, but no reader of generators; or see the readers.
        """
        info = self.infos[index]
        if not info.is_generator:
            return CheckpointItem(info, self.teachers.read(info))
        if self.generators is None:
            raise RunError(
                f"{info.path}: expected a GeneratorReader with spec and conditions to read "
                "generators, got none"
            )
        return CheckpointItem(info, self.generators.read(info))


def _order(info: CheckpointInfo) -> tuple[bool, str, str, bool, int, str]:
    """Generators first, then by model, task and step, a generator's latest after its steps."""
    step = -1 if info.step is None else info.step
    return (
        not info.is_generator,
        info.model or "",
        info.task,
        info.step is None,
        step,
        str(info.path),
    )
