"""Names of DnD's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from llgbm.deltas.errors import RunError
from llgbm.generators.dnd.checkpoint_names import parse_generator_name, parse_teacher_name


@pytest.mark.parametrize(
    ("name", "model", "size", "task", "step"),
    [
        ("qwen0.5lora__ARC-c1000.pth", "qwen0.5lora", "0.5B", "ARC-c", 1000),
        ("qwen0.5lora__ARC-c.pth", "qwen0.5lora", "0.5B", "ARC-c", None),
        ("qwen0.5lora__BoolQ0.pth", "qwen0.5lora", "0.5B", "BoolQ", 0),
        ("qwen1.5lora__Math1.5B.pth", "qwen1.5lora", "1.5B", "Math1.5B", None),
        ("qwen1.5lora__Math1.5B3000.pth", "qwen1.5lora", "1.5B", "Math1.5B", 3000),
        ("qwen7lora__Coding7B12000.pth", "qwen7lora", "7B", "Coding7B", 12000),
        ("qwen3vl-lora__ToT-Math-V1.pth", "qwen3vl-lora", "3B", "ToT-Math-V1", None),
        ("tiny__a__b.pth", "tiny", None, "a__b", None),
    ],
)
def test_generator_names_tell_model_size_task_and_step(name, model, size, task, step):
    info = parse_generator_name(Path("checkpoints") / name)
    assert (info.model, info.model_size, info.task, info.step) == (model, size, task, step)
    assert info.is_generator


def test_teacher_names_tell_task_and_step():
    info = parse_teacher_name(Path("data/common_sense_reasoning/ARC-c/250.safetensors"))
    assert (info.task, info.step, info.model) == ("ARC-c", 250, None)
    assert not info.is_generator


@pytest.mark.parametrize(
    "name", ["qwen0.5lora.pth", "qwen0.5lora_ARC-c.pth", "__ARC-c.pth", "a__.pth"]
)
def test_other_generator_names_are_named(name):
    with pytest.raises(RunError, match=r"name: expected MODEL__TASK\[step\].pth, got " + name):
        parse_generator_name(name)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "12a.safetensors", "12.pth"])
def test_other_teacher_names_are_named(name):
    with pytest.raises(RunError, match=f"expected STEP.safetensors, got {name}"):
        parse_teacher_name(name)
