"""Losses on weights: the Gram identity is exact, and only one of them sees the gauge."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses import DeltaWeightLoss, WeightLoss
from llgbm.generators.losses.weights import delta_w_inner, delta_w_squared_distance, gram_inner


def double(weights):
    return weights.to(dtype=torch.float64)


def explicit(weights):
    """[n, modules] nested list of s B A, the naive reference."""
    scaling = weights.spec.scaling
    return [
        [scaling * weights.lora_B[path][i] @ weights.lora_A[path][i] for path in weights.spec.paths]
        for i in range(weights.n)
    ]


def regauged(weights, seed):
    """A -> R A, B -> B R⁻¹ with well-conditioned R: the same updates."""
    generator = torch.Generator().manual_seed(seed)
    lora_A, lora_B = {}, {}
    for path in weights.spec.paths:
        A, B = weights.lora_A[path], weights.lora_B[path]
        r = weights.spec.r
        noise = torch.randn(weights.n, r, r, generator=generator, dtype=A.dtype)
        R = 2 * torch.eye(r, dtype=A.dtype) + 0.3 * noise
        lora_A[path], lora_B[path] = R @ A, B @ torch.linalg.inv(R)
    return LoRAWeights(weights.spec, lora_A, lora_B)


@settings(deadline=None, max_examples=30)
@given(
    ranks=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    widths=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 999),
)
def test_gram_inner_is_the_inner_product_of_the_updates(ranks, widths, seed):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(3, *shape, generator=generator, dtype=torch.float64)

    (r1, r2), (width_in, width_out) = ranks, widths
    A1, A2, B1, B2 = (
        drawn(r1, width_in),
        drawn(r2, width_in),
        drawn(width_out, r1),
        drawn(width_out, r2),
    )
    expected = ((B1 @ A1) * (B2 @ A2)).sum((-1, -2))
    torch.testing.assert_close(gram_inner(A1, B1, A2, B2), expected, atol=1e-10, rtol=1e-10)


def test_inner_products_and_distances_equal_the_explicit_updates(tiny_spec, make_teachers):
    first, second = double(make_teachers(tiny_spec, 2, 0)), double(make_teachers(tiny_spec, 2, 1))
    inner, distance = delta_w_inner(first, second), delta_w_squared_distance(first, second)
    assert inner.shape == distance.shape == (2, len(tiny_spec.modules))
    for i, (ours, theirs) in enumerate(zip(explicit(first), explicit(second), strict=True)):
        for m, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            torch.testing.assert_close(inner[i, m], (one * other).sum(), atol=1e-10, rtol=1e-10)
            expected = (one - other).square().sum()
            torch.testing.assert_close(distance[i, m], expected, atol=1e-10, rtol=1e-10)


def test_inner_products_carry_each_scaling(tiny_spec, make_teachers):
    first = double(make_teachers(tiny_spec, 1, 0))
    other_spec = LoRASpec(tiny_spec.modules, r=4, lora_alpha=40.0)
    second = LoRAWeights(other_spec, first.lora_A, first.lora_B)
    torch.testing.assert_close(
        delta_w_inner(first, second), 5 * delta_w_inner(first, first), atol=0, rtol=1e-12
    )


def test_norms_agree_with_those_of_the_weights(tiny_spec, make_teachers):
    weights = make_teachers(tiny_spec, 3)
    torch.testing.assert_close(
        delta_w_inner(weights, weights).sqrt(), weights.delta_norms(), atol=0, rtol=1e-5
    )


def test_delta_weight_loss_equals_the_explicit_one(tiny_spec, make_teachers):
    generated, teacher = (
        double(make_teachers(tiny_spec, 3, 0)),
        double(make_teachers(tiny_spec, 3, 1)),
    )
    ours, theirs = explicit(generated), explicit(teacher)
    relative = []
    for m in range(len(tiny_spec.modules)):
        error = sum((ours[i][m] - theirs[i][m]).square().sum() for i in range(3))
        relative.append(error / sum(theirs[i][m].square().sum() for i in range(3)))
    torch.testing.assert_close(
        DeltaWeightLoss()(generated, teacher), torch.stack(relative).mean(), atol=0, rtol=1e-10
    )


def test_only_the_delta_weight_loss_is_free_of_the_gauge(tiny_spec, make_teachers):
    teacher = double(make_teachers(tiny_spec, 2))
    same = regauged(teacher, 3)
    assert DeltaWeightLoss()(same, teacher) < 1e-12
    assert WeightLoss()(same, teacher) > 0.1
    other = double(make_teachers(tiny_spec, 2, 5))
    torch.testing.assert_close(
        DeltaWeightLoss()(regauged(other, 4), teacher),
        DeltaWeightLoss()(other, teacher),
        atol=1e-10,
        rtol=1e-10,
    )


def test_weight_loss_equals_the_explicit_one(tiny_spec, make_teachers):
    generated, teacher = make_teachers(tiny_spec, 3, 0), make_teachers(tiny_spec, 3, 1)
    relative = []
    for path in tiny_spec.paths:
        for name in ("lora_A", "lora_B"):
            ours, theirs = getattr(generated, name)[path], getattr(teacher, name)[path]
            relative.append((ours - theirs).square().sum() / theirs.square().sum())
    # Means of 28 float32 sums.
    torch.testing.assert_close(
        WeightLoss()(generated, teacher), torch.stack(relative).mean(), atol=0, rtol=1e-5
    )


@pytest.mark.parametrize("loss", [WeightLoss(), DeltaWeightLoss()], ids=lambda loss: loss.name)
def test_losses_are_zero_for_a_copy_and_small_near_one_in_float32(tiny_spec, make_teachers, loss):
    teacher = make_teachers(tiny_spec, 2)
    assert loss(teacher, teacher) == 0
    near = teacher.map(lambda factor: factor * (1 + 1e-4))
    # A relative error of 1e-4 in each factor: 1e-8 or 4e-8 squared, with its digits intact.
    expected = 1e-8 if loss.name == "factors" else 4e-8
    assert float(loss(near, teacher)) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("loss", [WeightLoss(), DeltaWeightLoss()], ids=lambda loss: loss.name)
def test_an_untrained_module_gives_a_finite_loss_and_gradient(tiny_spec, make_teachers, loss):
    teacher = make_teachers(tiny_spec, 2)
    idle = tiny_spec.paths[0]
    teacher.lora_B[idle].zero_()
    generated = teacher.map(lambda factor: factor.clone().requires_grad_())
    value = loss(generated, teacher)
    value.backward()
    assert value == 0
    assert all(torch.isfinite(factor.grad).all() for factor in generated.lora_B.values())


def test_teachers_get_no_gradient(tiny_spec, make_teachers):
    teacher = make_teachers(tiny_spec, 1).map(lambda factor: factor.requires_grad_())
    generated = make_teachers(tiny_spec, 1, 1).map(lambda factor: factor.requires_grad_())
    for loss in (WeightLoss(), DeltaWeightLoss()):
        loss(generated, teacher).backward()
    assert all(factor.grad is None for factor in teacher.lora_A.values())


@pytest.mark.parametrize("loss", [WeightLoss(), DeltaWeightLoss()], ids=lambda loss: loss.name)
def test_unlike_batches_are_refused(tiny_spec, make_teachers, loss):
    with pytest.raises(ValueError, match="n=2, got r=4 and n=1"):
        loss(make_teachers(tiny_spec, 1), make_teachers(tiny_spec, 2))
    other = LoRASpec((ModuleShape("a", 4, 4),), r=2, lora_alpha=4.0)
    with pytest.raises(ValueError, match=r"r=4.*got r=2"):
        loss(make_teachers(other, 2), make_teachers(tiny_spec, 2))
