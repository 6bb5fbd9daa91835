"""All terms: they move the compressor, and an objective sums and logs them."""

import pytest
import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses import PARTS, TERMS, Objective
from llgbm.latentwire.losses.answer import AnswerTermConfig
from llgbm.latentwire.losses.entropy import EntropyTermConfig
from llgbm.latentwire.losses.gist import GistTermConfig
from llgbm.latentwire.losses.hidden_kd import HiddenKDTermConfig
from llgbm.latentwire.losses.reconstruction import ReconstructionTermConfig
from llgbm.latentwire.losses.warmup_alignment import WarmupAlignmentTermConfig


def test_every_family_of_terms_is_registered():
    assert {config.name for config in PARTS} == set(TERMS)
    assert len(PARTS) == 15


# Terms of a part that the default compressor does not have.
TRAINING = [config for config in PARTS if config.name not in ("vq", "selection")]


@pytest.mark.parametrize("config", TRAINING, ids=lambda config: config.name)
def test_each_term_alone_moves_the_compressor(config, step, built):
    value = built(config(), step)(step)
    assert value.dtype == torch.float32
    assert value.shape == ()
    value.backward()
    moved = {
        name.split(".")[0]
        for name, parameter in step.compressor.named_parameters()
        if parameter.grad is not None and parameter.grad.norm() > 0
    }
    assert {"encoder", "pooler"} <= moved


@pytest.mark.parametrize("hidden", [0, 16])
def test_every_parameter_of_a_head_gets_a_gradient(step, hidden, built):
    for config in (ReconstructionTermConfig(hidden=hidden), GistTermConfig()):
        term = built(config, step)
        term(step).backward(retain_graph=True)
        assert all(parameter.grad.norm() > 0 for parameter in term.parameters())


def test_the_sum_of_contributions_is_the_loss_and_all_are_logged(step):
    configs = [AnswerTermConfig(), HiddenKDTermConfig(weight=0.25), EntropyTermConfig(weight=0.0)]
    objective = Objective(configs, step.compressor, step.reader)
    values, _ = objective.contributions(step)
    total, log = objective(step)
    torch.testing.assert_close(total, values["answer"] + values["hidden_kd"])
    assert log["weighted/hidden_kd"] == pytest.approx(0.25 * log["loss/hidden_kd"])
    assert "loss/entropy" not in log


def test_one_pass_over_the_reader_serves_answers_and_layers(step):
    passes = []
    body = step.reader.model.get_decoder()
    handle = body.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    objective = Objective([AnswerTermConfig(), HiddenKDTermConfig()], step.compressor, step.reader)
    try:
        objective(step)
    finally:
        handle.remove()
    assert passes == [True, False]


def test_objectives_refuse_bad_weights(step):
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="answer.weight"):
            Objective([AnswerTermConfig(weight=weight)], step.compressor, step.reader)


def test_a_step_on_which_nothing_weighs_is_refused(compressor, examples, step_of, tiny_reader):
    step = step_of(compressor, examples, number=9)
    objective = Objective([WarmupAlignmentTermConfig()], compressor, tiny_reader)
    with pytest.raises(ConfigError, match="step 9"):
        objective(step)
