"""Losses on deltas: their units, and that they stay finite where a generator starts."""

from __future__ import annotations

import pytest
import torch

from llgbm.generators.losses import DeltaCosineLoss, DeltaMSELoss, DeltaSumLoss

LOSSES = [DeltaMSELoss(), DeltaCosineLoss(), DeltaSumLoss()]


@pytest.fixture
def teacher():
    return torch.randn(3, 5, 2, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_copy_costs_nothing(loss, teacher):
    # 1e-6: the float32 rounding of a cosine.
    assert abs(float(loss(teacher, teacher))) < 1e-6


def test_zero_costs_one_in_the_unit_of_the_teachers(teacher):
    assert float(DeltaMSELoss()(torch.zeros_like(teacher), teacher)) == pytest.approx(1.0)
    assert float(DeltaMSELoss()(100 * teacher, 99 * teacher, teacher)) == pytest.approx(1, rel=1e-3)
    given = DeltaMSELoss(mean_square=4.0)
    expected = teacher.square().mean() / 4
    torch.testing.assert_close(given(torch.zeros_like(teacher), teacher), expected)


def test_cosine_sees_direction_and_not_size(teacher):
    loss = DeltaCosineLoss()
    other = torch.randn_like(teacher)
    torch.testing.assert_close(loss(3 * other, teacher), loss(other, teacher), atol=1e-6, rtol=0)
    assert float(loss(-teacher, teacher)) == pytest.approx(2.0, abs=1e-6)
    layers = (delta.transpose(1, 2).flatten(2) for delta in (other, teacher))
    cosine = torch.nn.functional.cosine_similarity(*layers, dim=2)
    torch.testing.assert_close(loss(other, teacher), 1 - cosine.mean(), atol=1e-6, rtol=0)


def test_the_sum_is_both(teacher):
    other = torch.randn_like(teacher)
    torch.testing.assert_close(
        DeltaSumLoss(cosine_weight=0.5)(other, teacher),
        DeltaMSELoss()(other, teacher) + 0.5 * DeltaCosineLoss()(other, teacher),
    )


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_gradient_at_the_base_model_is_bounded_and_points_to_the_teacher(loss, teacher):
    start = torch.zeros_like(teacher).requires_grad_()
    loss(start, teacher).backward()
    assert torch.isfinite(start.grad).all()
    # At most 1 / floor per item in units of the teacher's length.
    assert float(start.grad.norm() * teacher.norm()) < 300
    assert float((start.grad * teacher).sum()) < 0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_teacher_of_zero_is_finite(loss, teacher):
    predicted = teacher.clone().requires_grad_()
    value = loss(predicted, torch.zeros_like(teacher))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_other_shapes_are_refused(loss, teacher):
    with pytest.raises(ValueError, match=r"\(3, 5, 2, 8\), got \(3, 8\)"):
        loss(torch.zeros(3, 8), teacher)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_layer_that_no_teacher_moves_costs_a_copy_nothing(loss, teacher):
    teacher[:, :, 0] = 0
    assert abs(float(loss(teacher, teacher))) < 1e-6
