"""Objectives: their terms, their weights and when they run the base model."""

from __future__ import annotations

import pytest
import torch

from llgbm.deltas.errors import SettingError
from llgbm.generators.generator import GeneratorOutput
from llgbm.generators.losses import (
    Constant,
    CosineRise,
    DeltaGuided,
    DeltaMSELoss,
    DeltaOnly,
    DeltaWeightLoss,
    MultiTask,
    Ramp,
    Step,
    WeightLoss,
)
from llgbm.generators.losses.recommended import recommended_objective
from llgbm.generators.losses.weights import delta_w_inner


class LinearBehaviour:
    """A delta that follows one factor, and logits that follow the delta."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, weights):
        return weights.lora_B[self.path].sum((1, 2))[:, None] * torch.arange(6.0)

    def log_probabilities(self, deltas):
        return torch.log_softmax(deltas.view(2, 1, 6), dim=-1)


@pytest.fixture
def make_step(tiny_spec, make_teachers):
    """Return a maker of steps: `make_step(number, **changes)`."""
    weights = make_teachers(tiny_spec, 2, 1).map(lambda factor: factor.requires_grad_())
    delta = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher_delta = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    output = GeneratorOutput(weights, delta, torch.zeros(2, 3))
    parts = {
        "output": output,
        "teacher_weights": make_teachers(tiny_spec, 2, 0),
        "teacher_delta": teacher_delta,
        "behaviour": LinearBehaviour(tiny_spec.paths[0]),
        "task_loss": lambda weights: weights.lora_A[tiny_spec.paths[1]].square().mean((1, 2)),
    }
    return lambda number=0, **changes: Step(number, **{**parts, **changes})


def test_multi_task_is_the_weighted_sum_of_both(make_step):
    step = make_step()
    loss = MultiTask(lambda_weight=0.5, lambda_delta=3.0)(step)
    weight = WeightLoss()(step.output.weights, step.teacher_weights)
    computed = DeltaMSELoss()(step.behaviour(step.output.weights), step.teacher_delta)
    assert set(loss.terms) == {"weight", "computed"}
    torch.testing.assert_close(loss.total, 0.5 * weight + 3 * computed)
    torch.testing.assert_close(loss.terms["weight"], weight.detach())
    assert not loss.terms["computed"].requires_grad


def test_weights_alone_never_ask_for_a_delta(make_step):
    objective = MultiTask(lambda_delta=0.0, weight_loss=DeltaWeightLoss())
    assert not any(objective.runs_base(step) for step in range(5))
    step = make_step(behaviour=None)
    expected = DeltaWeightLoss()(step.output.weights, step.teacher_weights)
    torch.testing.assert_close(objective(step).total, expected)


def test_delta_only_does_not_see_the_teachers_weights(make_step, tiny_spec, make_teachers):
    objective = DeltaOnly(norm_penalty=0.1)
    assert objective.runs_base(7)
    step = make_step(7)
    first = objective(step)
    second = objective(make_step(7, teacher_weights=make_teachers(tiny_spec, 2, 9)))
    assert first.total == second.total
    weights = step.output.weights
    norm = delta_w_inner(weights, weights).mean()
    expected = DeltaMSELoss()(step.behaviour(weights), step.teacher_delta) + 0.1 * norm
    torch.testing.assert_close(first.total, expected)


def test_delta_guided_computes_every_n_steps_from_the_first():
    objective = DeltaGuided(every_n=3)
    needed = [step for step in range(8) if objective.runs_base(step)]
    assert needed == [0, 3, 6]
    idle = DeltaGuided(every_n=1, lambda_computed=0.0, lambda_consistency=0.0)
    assert not idle.runs_base(0)


def test_delta_guided_has_the_heads_term_every_step_and_the_others_when_computed(make_step):
    objective = DeltaGuided(every_n=2, lambda_pred=2.0, lambda_computed=3.0, lambda_weight=0.5)
    step = make_step(2)
    between = objective(make_step(1, behaviour=None))
    pred = DeltaMSELoss()(step.output.delta, step.teacher_delta)
    weight = WeightLoss()(step.output.weights, step.teacher_weights)
    assert set(between.terms) == {"pred", "weight"}
    torch.testing.assert_close(between.total, 2 * pred + 0.5 * weight)
    grounded = objective(step)
    actual = step.behaviour(step.output.weights)
    computed = DeltaMSELoss()(actual, step.teacher_delta)
    error = (step.output.delta - actual).square().mean()
    consistency = error / step.teacher_delta.square().mean()
    assert set(grounded.terms) == {"pred", "weight", "computed", "consistency"}
    torch.testing.assert_close(grounded.total, 2 * pred + 0.5 * weight + 3 * computed + consistency)


def test_the_delta_is_computed_once_for_all_terms(make_step, tiny_spec):
    class Counting(LinearBehaviour):
        calls = 0

        def __call__(self, weights):
            Counting.calls += 1
            return super().__call__(weights)

    objective = DeltaGuided(every_n=1, lambda_kl=0.1)
    loss = objective(make_step(behaviour=Counting(tiny_spec.paths[0])))
    assert {"computed", "consistency", "kl"} <= set(loss.terms)
    assert Counting.calls == 1


def test_consistency_moves_the_head_and_not_the_behaviour(make_step):
    step = make_step()
    DeltaGuided(lambda_pred=0.0, lambda_computed=0.0)(step).total.backward()
    assert step.output.delta.grad.abs().sum() > 0
    assert all(factor.grad is None for factor in step.output.weights.lora_B.values())


def test_consistency_is_finite_where_the_generator_starts(make_step):
    class Nothing(LinearBehaviour):
        def __call__(self, weights):
            return torch.zeros(2, 6)

    loss = DeltaGuided()(make_step(behaviour=Nothing("")))
    assert loss.terms["consistency"] < 100


def test_the_kl_term_is_zero_at_the_teacher_and_pulls_the_adapter_towards_it(make_step):
    step = make_step()
    objective = MultiTask(lambda_weight=0.0, lambda_delta=0.0, lambda_kl=2.0)
    loss = objective(step)
    log_p = torch.log_softmax(step.teacher_delta, -1)
    log_q = torch.log_softmax(step.computed_delta, -1)
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    torch.testing.assert_close(loss.total, 2 * expected)
    loss.total.backward()
    assert any(f.grad is not None and f.grad.abs().sum() > 0 for f in factors(step))
    same = make_step(teacher_delta=step.computed_delta.detach())
    assert float(objective(same).total.detach()) == pytest.approx(0, abs=1e-6)


def factors(step):
    return list(step.output.weights.lora_B.values())


def test_the_task_loss_reaches_the_adapters_and_needs_no_delta(make_step, tiny_spec):
    objective = MultiTask(lambda_weight=0.0, lambda_delta=0.0, lambda_sft=3.0)
    assert not objective.runs_base(0)
    step = make_step(behaviour=None)
    loss = objective(step)
    torch.testing.assert_close(loss.total, 3 * step.task_loss(step.output.weights).mean())
    loss.total.backward()
    assert step.output.weights.lora_A[tiny_spec.paths[1]].grad.abs().sum() > 0
    with pytest.raises(ValueError, match="expected a task_loss"):
        objective(make_step(task_loss=None))


def test_shares_of_a_step_average_to_the_loss_of_the_whole(make_step):
    whole = make_step()
    objective = DeltaGuided(every_n=1, lambda_weight=1.0, lambda_kl=0.0)
    for distance in (WeightLoss(), DeltaWeightLoss()):
        objective = DeltaGuided(every_n=1, lambda_weight=1.0, weight_loss=distance)
        shares = []
        for item in (0, 1):
            output = GeneratorOutput(
                whole.output.weights.select([item]), whole.output.delta[[item]], torch.zeros(1, 3)
            )
            share = make_step(
                output=output,
                teacher_weights=whole.teacher_weights.select([item]),
                teacher_delta=whole.teacher_delta[[item]],
                whole_weights=whole.teacher_weights,
                whole_delta=whole.teacher_delta,
            )
            shares.append(objective(share).total)
        torch.testing.assert_close(sum(shares) / 2, objective(make_step()).total)


@pytest.mark.parametrize("objective", [MultiTask(), DeltaOnly(), DeltaGuided()])
def test_a_step_that_needs_the_delta_says_so(make_step, objective):
    with pytest.raises(ValueError, match="step 0: expected a behaviour"):
        objective(make_step(behaviour=None))


def test_a_step_without_active_terms_still_has_a_loss(make_step):
    loss = DeltaGuided(lambda_pred=0.0)(make_step(1, behaviour=None))
    assert not loss.terms
    loss.total.backward()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiTask(-1.0), "lambda_weight: expected at least 0, got -1.0"),
        (lambda: MultiTask(0.0, 0.0), "expected one above 0"),
        (lambda: MultiTask(float("nan")), "lambda_weight: expected at least 0, got nan"),
        (lambda: DeltaOnly(-0.5), "norm_penalty"),
        (lambda: DeltaGuided(every_n=0), "every_n: expected at least 1, got 0"),
        (lambda: DeltaGuided(lambda_pred=-2), "lambda_pred"),
    ],
)
def test_senseless_weights_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedules_rise_from_their_start() -> None:
    ramp = Ramp(3, 2)
    assert [ramp.at(step) for step in range(6)] == [0, 0, 0, 0.5, 1.0, 1.0]
    assert [Ramp().at(step) for step in (0, 9)] == [1.0, 1.0]
    assert [Constant().at(step) for step in (0, 9)] == [1.0, 1.0]
    rise = CosineRise(2, 4)
    expected = [0, 0, 0.146447, 0.5, 0.853553, 1.0, 1.0]
    assert [rise.at(step) for step in range(7)] == pytest.approx(expected, abs=1e-6)


def test_schedules_that_do_not_fit_are_refused() -> None:
    for kind in (Ramp, CosineRise):
        with pytest.raises(SettingError, match="at least 0"):
            kind(-1)
        kind(5, 5).check(10)
        for start, rise in ((10, 0), (6, 5)):
            with pytest.raises(SettingError, match="full weight within the 10 steps"):
                MultiTask(schedule=kind(start, rise)).check(10)
        MultiTask(lambda_delta=0.0, schedule=kind(50)).check(10)
    with pytest.raises(ValueError, match="start of 0"):
        MultiTask(lambda_weight=0.0, schedule=Ramp(2))


def test_the_base_does_not_run_before_the_schedule() -> None:
    guided = DeltaGuided(every_n=2, schedule=Ramp(3))
    assert [guided.runs_base(s) for s in range(6)] == [False, False, False, False, True, False]
    assert not MultiTask(schedule=Ramp(3)).runs_base(2)
    assert MultiTask(schedule=Ramp(3)).runs_base(3)


def test_the_recommended_objective_computes_deltas_in_the_last_quarter() -> None:
    objective = recommended_objective(100)
    needed = [objective.runs_base(step) for step in range(100)]
    assert needed[:76] == [False] * 76
    assert needed[76:] == [True, False, False, False] * 6
    short = recommended_objective(40)
    assert [short.runs_base(step) for step in range(40)] == [False] * 30 + [True] * 10
    for steps in (1, 2, 3, 7, 60, 64, 101):
        recommended_objective(steps).check(steps)
