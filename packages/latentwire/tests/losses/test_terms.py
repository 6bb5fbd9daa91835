"""Terms on answers, bottlenecks and lengths, against plain computations."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from llgbm.latentwire.bottlenecks.base import BOTTLENECKS
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.latents import Latents, slot_mask
from llgbm.latentwire.losses.entropy import EntropyTermConfig
from llgbm.latentwire.losses.first_token import FirstTokenTermConfig
from llgbm.latentwire.losses.first_tokens import FirstTokensTermConfig
from llgbm.latentwire.losses.length import LengthTermConfig
from llgbm.latentwire.losses.scheduled_sampling import ScheduledSamplingTermConfig
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.losses.vq import VQTermConfig
from llgbm.latentwire.schedules import ScheduleConfig
from llgbm.latentwire.scoring import score

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def test_the_first_token_term_is_the_mean_over_first_tokens(step, built, first_rows):
    scored = step.scored
    chosen = first_rows(scored)
    expected = sum(-scored.logits[i].log_softmax(-1)[scored.targets[i]] for i in chosen) / 4
    term = built(FirstTokenTermConfig(), step)
    torch.testing.assert_close(term(step), expected, **CLOSE)


def test_the_up_weight_follows_accuracy_and_stays_at_most_four(step, built):
    term = built(FirstTokenTermConfig(up_weight=4.0, wanted_accuracy=0.5), step)
    plain = built(FirstTokenTermConfig(), step)(step)
    # The random reader is never right: the multiplier is whole.
    torch.testing.assert_close(term(step), 4 * plain)
    term.accuracy.fill_(0.25)
    term.eval()
    torch.testing.assert_close(term(step), 2.5 * plain)
    term.accuracy.fill_(0.9)
    torch.testing.assert_close(term(step), plain)
    assert "accuracy" in term.state_dict()


def test_the_smoothed_accuracy_moves_in_training_only(step, built):
    term = built(FirstTokenTermConfig(up_weight=4.0), step)
    term.accuracy.fill_(0.5)
    term.eval()(step)
    assert term.accuracy == 0.5
    term.train()(step)
    assert term.accuracy == pytest.approx(0.45)


def test_a_peak_and_an_up_weight_together_above_four_are_refused():
    peak = ScheduleConfig(shape="peak", peak=2.0)
    FirstTokenTermConfig(schedule=peak, up_weight=2.0)
    with pytest.raises(ConfigError, match="at most 4"):
        FirstTokenTermConfig(schedule=peak, up_weight=2.5)
    with pytest.raises(ConfigError, match="up_weight"):
        FirstTokenTermConfig(up_weight=float("nan"))


@pytest.mark.parametrize("tokens", [1, 2, 100])
def test_the_first_tokens_term_is_the_mean_over_the_first_k_tokens(step, tokens, built, first_rows):
    scored = step.scored
    chosen = [i + j for i in first_rows(scored) for j in range(tokens)
              if i + j < len(scored.row) and scored.row[i + j] == scored.row[i]]  # fmt: skip
    expected = cross_entropy(scored.logits[chosen], scored.targets[chosen])
    term = built(FirstTokensTermConfig(tokens=tokens), step)
    torch.testing.assert_close(term(step), expected, **CLOSE)


def test_entropy_is_what_the_bounded_bonus_lacks(step, built, first_rows):
    values = []
    for i in first_rows(step.scored):
        chances = step.scored.logits[i].softmax(-1)
        entropy = float(-(chances * chances.log()).sum().detach())
        values.append(3 * (1 - math.tanh(entropy / 3)))
    term = built(EntropyTermConfig(most=3.0), step)
    assert float(term(step).detach()) == pytest.approx(sum(values) / 4, rel=1e-3)


def test_entropy_pays_at_a_peak_and_hardly_where_flat(step, built):
    def gradient(logits):
        leaf = torch.tensor([logits], requires_grad=True)
        step.scored = SimpleNamespace(logits=leaf, step=torch.tensor([0]))
        value = built(EntropyTermConfig(most=0.5), step)(step)
        value.backward()
        return float(value.detach()), float(leaf.grad.norm())

    peaked, flat = gradient([4.0, 0.0, 0.0, 0.0]), gradient([0.2, 0.0, 0.0, 0.0])
    assert peaked[0] > 0.2 > flat[0] >= 0
    assert peaked[1] > 10 * flat[1]


def constant(value):
    return ScheduleConfig(shape="linear", start_value=value, end_value=value)


def test_scheduled_sampling_reads_its_own_tokens_and_keeps_gold_targets(step, built):
    term = built(ScheduledSamplingTermConfig(probability=constant(1.0)), step)
    own = step.scored.logits.argmax(-1)
    answers = [own[step.scored.row == row].tolist() for row in range(4)]
    with step.compressor.attached(step.latents):
        again = score(step.reader, step.prefix, step.endings, answers)
    expected = cross_entropy(again.logits, step.scored.targets)
    torch.testing.assert_close(term(step), expected, **CLOSE)
    assert not torch.allclose(expected, step.scored.nll.mean(), rtol=1e-4)


def test_scheduled_sampling_without_own_tokens_is_the_answer_term(step, built):
    term = built(ScheduledSamplingTermConfig(probability=constant(0.0)), step)
    assert torch.equal(term(step), step.scored.nll.mean())


def test_the_share_of_own_tokens_follows_the_schedule(compressor, examples, built, step_of):
    long = [Example(each.context, each.ending, "one two three four " * 12) for each in examples]
    shares = []
    for number in (0, 5, 9):
        step = step_of(compressor, long, number)
        term = built(ScheduledSamplingTermConfig(), step)
        term(step)
        shares.append(term.logged["replaced"])
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.25, abs=0.08)
    assert shares[2] == pytest.approx(0.45, abs=0.08)


def test_a_probability_above_one_is_refused():
    with pytest.raises(ConfigError, match="probability"):
        ScheduledSamplingTermConfig(probability=constant(1.5))


def test_vq_is_the_bottleneck_s_loss_and_moves_the_compressor(
    examples, built, step_of, compressor_of
):
    compressor = compressor_of(bottleneck=BOTTLENECKS["vq"](codebook=4))
    step = step_of(compressor, examples)
    value = built(VQTermConfig(), step)(step)
    assert torch.equal(value, compressor.bottleneck.last_loss)
    assert value > 0
    value.backward()
    assert compressor.pooler.head.last.weight.grad.norm() > 0


def test_vq_refuses_what_has_no_loss(step, examples, built, step_of, compressor_of):
    with pytest.raises(ConfigError, match="bottleneck, got none"):
        built(VQTermConfig(), step)
    bare = step_of(compressor_of(bottleneck=BOTTLENECKS["rounding"]()), examples)
    term = built(VQTermConfig(), bare)
    with pytest.raises(ConfigError, match="'rounding'"):
        term(bare)
    bare.compressor.eval()
    assert term(bare) == 0


def length_of(step, norms):
    counts = torch.tensor([len(row) for row in norms])
    values = torch.zeros(len(norms), int(counts.max()), 3)
    for row, each in enumerate(norms):
        for slot, norm in enumerate(each):
            values[row, slot, slot % 3] = norm
    values.requires_grad_()
    mask = slot_mask(counts)
    value = LengthTermConfig().build(step.compressor, step.reader)(
        Step(step.compressor, step.reader, step.examples, Latents(values, mask), 0, 10)
    )
    return value, values


def test_length_is_the_share_of_slots_in_use(step):
    assert float(length_of(step, [[2.0] * 4])[0].detach()) == pytest.approx(1)
    assert float(length_of(step, [[5.0, 0.0, 0.0, 5.0]])[0].detach()) == pytest.approx(0.5)
    assert float(length_of(step, [[1.0, 1.0], [3.0, 0.0, 0.0]])[0].detach()) == pytest.approx(2 / 3)


def test_length_shrinks_small_slots_beside_large_ones_only(step):
    value, values = length_of(step, [[4.0, 1.0, 1.0]])
    value.backward()
    slopes = [float(values.grad[0, slot, slot]) for slot in range(3)]
    assert slopes[0] < 0 < slopes[1]
    scaled = length_of(step, [[8.0, 2.0, 2.0]])[0]
    assert float(scaled.detach()) == pytest.approx(float(value.detach()))
