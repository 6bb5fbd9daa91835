"""Objectives: their terms, their weights and when they run the base model."""

from __future__ import annotations

import pytest
import torch

from llgbm.generators.generator import GeneratorOutput
from llgbm.generators.losses import (
    DeltaGuided,
    DeltaMSELoss,
    DeltaOnly,
    DeltaWeightLoss,
    MultiTask,
    Ramp,
    WeightLoss,
)
from llgbm.generators.losses.recommended import recommended_objective
from llgbm.generators.losses.weights import delta_w_inner


@pytest.fixture
def step_inputs(tiny_spec, make_teachers):
    """Output, teachers, their deltas, and a computed delta that follows the weights."""
    weights = make_teachers(tiny_spec, 2, 1).map(lambda factor: factor.requires_grad_())
    delta = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher_delta = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))

    def compute(generated):
        path = tiny_spec.paths[0]
        return generated.lora_B[path].sum((1, 2))[:, None] * torch.arange(6.0)

    output = GeneratorOutput(weights, delta, torch.zeros(2, 3))
    return output, make_teachers(tiny_spec, 2, 0), teacher_delta, compute


def test_multi_task_is_the_weighted_sum_of_both(step_inputs):
    output, teachers, teacher_delta, compute = step_inputs
    loss = MultiTask(lambda_weight=0.5, lambda_delta=3.0)(*step_inputs, 0)
    weight = WeightLoss()(output.weights, teachers)
    computed = DeltaMSELoss()(compute(output.weights), teacher_delta)
    assert set(loss.terms) == {"weight", "computed"}
    torch.testing.assert_close(loss.total, 0.5 * weight + 3 * computed)
    torch.testing.assert_close(loss.terms["weight"], weight.detach())
    assert not loss.terms["computed"].requires_grad


def test_weights_alone_never_ask_for_a_delta(step_inputs):
    output, teachers, teacher_delta, _ = step_inputs
    objective = MultiTask(lambda_delta=0.0, weight_loss=DeltaWeightLoss())
    assert not any(objective.needs_computed_delta(step) for step in range(5))
    loss = objective(output, teachers, teacher_delta, None, 0)
    torch.testing.assert_close(loss.total, DeltaWeightLoss()(output.weights, teachers))


def test_delta_only_does_not_see_the_teachers_weights(step_inputs, tiny_spec, make_teachers):
    output, _, teacher_delta, compute = step_inputs
    objective = DeltaOnly(norm_penalty=0.1)
    assert objective.needs_computed_delta(7)
    first = objective(*step_inputs, 7)
    second = objective(output, make_teachers(tiny_spec, 2, 9), teacher_delta, compute, 7)
    assert first.total == second.total
    norm = delta_w_inner(output.weights, output.weights).mean()
    expected = DeltaMSELoss()(compute(output.weights), teacher_delta) + 0.1 * norm
    torch.testing.assert_close(first.total, expected)


def test_delta_guided_computes_every_n_steps_from_the_first():
    objective = DeltaGuided(every_n=3)
    needed = [step for step in range(8) if objective.needs_computed_delta(step)]
    assert needed == [0, 3, 6]
    idle = DeltaGuided(every_n=1, lambda_computed=0.0, lambda_consistency=0.0)
    assert not idle.needs_computed_delta(0)


def test_delta_guided_has_the_heads_term_every_step_and_the_others_when_computed(step_inputs):
    output, teachers, teacher_delta, compute = step_inputs
    objective = DeltaGuided(every_n=2, lambda_pred=2.0, lambda_computed=3.0, lambda_weight=0.5)
    between = objective(output, teachers, teacher_delta, None, 1)
    pred = DeltaMSELoss()(output.delta, teacher_delta)
    weight = WeightLoss()(output.weights, teachers)
    assert set(between.terms) == {"pred", "weight"}
    torch.testing.assert_close(between.total, 2 * pred + 0.5 * weight)
    grounded = objective(*step_inputs, 2)
    actual = compute(output.weights)
    computed = DeltaMSELoss()(actual, teacher_delta)
    consistency = (output.delta - actual).square().mean() / teacher_delta.square().mean()
    assert set(grounded.terms) == {"pred", "weight", "computed", "consistency"}
    torch.testing.assert_close(grounded.total, 2 * pred + 0.5 * weight + 3 * computed + consistency)


def test_consistency_moves_the_head_and_not_the_behaviour(step_inputs):
    output, *_ = step_inputs
    objective = DeltaGuided(lambda_pred=0.0, lambda_computed=0.0)
    objective(*step_inputs, 0).total.backward()
    assert output.delta.grad.abs().sum() > 0
    assert all(factor.grad is None for factor in output.weights.lora_B.values())


def test_consistency_is_finite_where_the_generator_starts(step_inputs):
    output, teachers, teacher_delta, _ = step_inputs
    loss = DeltaGuided()(output, teachers, teacher_delta, lambda w: torch.zeros(2, 6), 0)
    assert loss.terms["consistency"] < 100


@pytest.mark.parametrize("objective", [MultiTask(), DeltaOnly(), DeltaGuided()])
def test_a_step_that_needs_the_delta_says_so(step_inputs, objective):
    output, teachers, teacher_delta, _ = step_inputs
    with pytest.raises(ValueError, match="step 0: expected compute_delta"):
        objective(output, teachers, teacher_delta, None, 0)


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


def test_a_ramp_rises_from_its_start() -> None:
    ramp = Ramp(3, 2)
    assert [ramp.at(step) for step in range(6)] == [0, 0, 0, 0.5, 1.0, 1.0]
    assert [Ramp().at(step) for step in (0, 9)] == [1.0, 1.0]
    with pytest.raises(ValueError, match="at least 0"):
        Ramp(-1)
    with pytest.raises(ValueError, match="start of 0"):
        MultiTask(lambda_weight=0.0, ramp=Ramp(2))


def test_the_base_does_not_run_before_the_ramp() -> None:
    assert [DeltaGuided(every_n=2, ramp=Ramp(3)).needs_computed_delta(s) for s in range(6)] == [
        False, False, False, False, True, False,
    ]  # fmt: skip
    assert not MultiTask(ramp=Ramp(3)).needs_computed_delta(2)
    assert MultiTask(ramp=Ramp(3)).needs_computed_delta(3)


def test_the_recommended_objective_computes_deltas_in_the_last_quarter() -> None:
    objective = recommended_objective(100)
    needed = [objective.needs_computed_delta(step) for step in range(100)]
    assert needed == [False] * 75 + [True] * 25
