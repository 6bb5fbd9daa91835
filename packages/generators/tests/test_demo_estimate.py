"""What the demo says before it starts: how long, and of what is left."""

import pytest

from llgbm.deltas.base_models import load_base_model
from llgbm.generators.demo import Stages
from llgbm.generators.demo_estimate import estimate_seconds
from llgbm.generators.demo_presets import DemoPreset
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import TeacherOptim


def test_work_that_is_done_is_not_estimated_again(tiny_run, tmp_path) -> None:
    stages = Stages(RunFolder(tmp_path), 7)
    assert stages.finished == []
    for name in ("teach", "deltas"):
        with stages.stage(name, name):
            pass
    again = Stages(RunFolder(tmp_path), 7)
    assert again.finished == ["teachers"]
    model, tokenizer = load_base_model(str(tiny_run[1]))
    preset = DemoPreset(tiny_run[2][:2], (), 2, TeacherOptim(steps=4), 8, 4, 1, 2, 4)
    whole = estimate_seconds(model, tokenizer, preset, 0)
    assert list(whole) == ["teachers", "generators", "evaluation"]
    assert min(whole.values()) > 0
    left = estimate_seconds(model, tokenizer, preset, 0, again.finished)
    assert list(left) == ["generators", "evaluation"]


def test_a_stage_that_was_interrupted_is_not_finished(tmp_path) -> None:
    stages = Stages(RunFolder(tmp_path), 7)
    with pytest.raises(KeyboardInterrupt), stages.stage("teach", "teach"):
        raise KeyboardInterrupt
    assert Stages(RunFolder(tmp_path), 7).finished == []
    assert "teach" in stages.seconds
