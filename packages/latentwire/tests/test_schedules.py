"""Schedules at named points, and gates that open."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.answer import AnswerTermConfig
from llgbm.latentwire.losses.entropy import EntropyTermConfig
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.reconstruction import ReconstructionTermConfig
from llgbm.latentwire.schedules import ScheduleConfig


@pytest.mark.parametrize(
    ("config", "points"),
    [
        (ScheduleConfig(), {0.0: 1.0, 1.0: 1.0}),
        (ScheduleConfig("linear"), {0.0: 0.0, 0.25: 0.25, 1.0: 1.0}),
        (ScheduleConfig("linear", begin=0.4, end=0.8), {0.3: 0, 0.4: 0, 0.6: 0.5, 0.8: 1, 1: 1}),
        (ScheduleConfig("linear", start_value=1, end_value=0, end=0.5), {0: 1, 0.25: 0.5, 0.9: 0}),
        (ScheduleConfig("cosine"), {0.0: 0.0, 1 / 3: 0.25, 0.5: 0.5, 2 / 3: 0.75, 1.0: 1.0}),
        (ScheduleConfig("cosine", begin=0.5), {0.5: 0.0, 0.75: 0.5, 1.0: 1.0}),
        (ScheduleConfig("peak", peak=3.0, begin=0.2, end=0.6), {0: 3, 0.2: 3, 0.4: 2, 0.6: 1}),
    ],
)
def test_factors_at_named_points(config, points):
    for done, factor in points.items():
        assert config.factor(done) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"shape": "square"}, "shape"),
        ({"begin": 0.5, "end": 0.5}, "begin"),
        ({"end": 1.5}, "end"),
        ({"peak": 5.0}, "peak"),
        ({"start_value": -0.1}, "start_value"),
        ({"end_value": float("nan")}, "end_value"),
        ({"gate_on": "f1"}, "gate_on"),
        ({"gate": 1.0, "gate_on": "cosine"}, "cosine"),
    ],
)
def test_bad_settings_are_refused(settings, word):
    with pytest.raises(ConfigError, match=word):
        ScheduleConfig(**settings)


class Given(nn.Module):
    """Stands for a term whose number is set by the test."""

    reads_layers = False

    def __init__(self, value, **logged):
        super().__init__()
        self.value, self.logged = value, logged

    def forward(self, step):
        return torch.tensor(self.value)


def objective_of(schedule, answer=9.0, cosine=0.0):
    configs = [
        AnswerTermConfig(),
        ReconstructionTermConfig(),
        EntropyTermConfig(weight=2.0, schedule=schedule),
    ]
    compressor, reader = SimpleNamespace(width=4), SimpleNamespace(width=4, device="cpu")
    objective = Objective(configs, compressor, reader)
    objective.terms["answer"] = Given(answer)
    objective.terms["reconstruction"] = Given(1.0, cosine=cosine)
    objective.terms["entropy"] = Given(1.0)
    return objective


def at(number, steps=100):
    return SimpleNamespace(number=number, steps=steps)


def added(objective, number):
    return objective(at(number))[1].get("weighted/entropy", 0.0)


def test_a_gated_schedule_begins_when_the_answer_loss_is_low():
    objective = objective_of(ScheduleConfig("linear", gate=5.0))
    assert [added(objective, number) for number in range(20)] == [0.0] * 20
    objective.terms["answer"].value = 0.0
    waited = 20
    while added(objective, waited) == 0.0 and "entropy" not in objective.opened:
        waited += 1
    # 9 * 0.9**6 is the first below 5, and the step after it opens.
    assert objective.opened == {"entropy": 26}
    assert added(objective, 63) == pytest.approx(2 * 37 / 74)
    assert added(objective, 100) == pytest.approx(2.0)


def test_a_gate_stays_open_once_it_was():
    objective = objective_of(ScheduleConfig("linear", start_value=0.5, gate=5.0), answer=1.0)
    assert added(objective, 0) == pytest.approx(1.0)
    objective.terms["answer"].value = 1000.0
    assert added(objective, 1) == pytest.approx(1.0)
    assert added(objective, 100) == pytest.approx(2.0)


def test_a_cosine_gate_waits_for_reconstruction():
    objective = objective_of(ScheduleConfig(gate=0.75, gate_on="cosine"), cosine=0.7)
    assert [added(objective, number) for number in range(3)] == [0.0] * 3
    objective.terms["reconstruction"].logged = {"cosine": 1.0}
    assert [added(objective, number) for number in range(3, 6)] == [0.0, 0.0, 2.0]


def test_a_peak_waits_at_its_peak():
    objective = objective_of(ScheduleConfig("peak", peak=3.0, gate=5.0))
    assert added(objective, 50) == pytest.approx(6.0)


def test_a_resumed_objective_goes_on_as_it_was():
    schedule = ScheduleConfig("linear", gate=5.0)
    objective = objective_of(schedule, answer=1.0)
    added(objective, 0), added(objective, 10)
    resumed = objective_of(schedule, answer=1.0)
    resumed.restore(objective.state())
    assert added(resumed, 55) == added(objective, 55) == pytest.approx(1.0)


def test_evaluation_moves_no_gate():
    objective = objective_of(ScheduleConfig("linear", gate=5.0), answer=1.0).eval()
    added(objective, 0), added(objective, 1)
    assert objective.state() == {"opened": {}, "smoothed": {}}


def test_gates_that_could_never_open_are_refused():
    compressor, reader = SimpleNamespace(width=4), SimpleNamespace(width=4, device="cpu")
    gated = ScheduleConfig("linear", gate=0.5, gate_on="cosine")
    answer = AnswerTermConfig(schedule=gated)
    with pytest.raises(ConfigError, match="'reconstruction'"):
        Objective([answer], compressor, reader)
    with pytest.raises(ConfigError, match="reconstruction.schedule.gate"):
        Objective(
            [AnswerTermConfig(), ReconstructionTermConfig(schedule=gated)], compressor, reader
        )
