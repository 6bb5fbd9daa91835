"""The nearest-teacher ratio: 0 for a copy, 1 for one more teacher, whatever the gauge."""

import pytest
import torch

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.clusters import clusters, gram_silhouette
from llgbm.generators.evaluation.nearest_teacher import NearestTeacher, delta_w_distances


def test_distances_are_those_of_explicit_updates(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 11)  # more than are compared at once
    found = delta_w_distances(teachers.select([3]), teachers)

    def whole(index: int) -> torch.Tensor:
        return torch.cat(
            [
                (
                    tiny_spec.scaling * teachers.lora_B[p][index] @ teachers.lora_A[p][index]
                ).flatten()
                for p in tiny_spec.paths
            ]
        )

    expected = torch.stack([(whole(3) - whole(index)).norm() for index in range(11)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_copy_has_ratio_zero_and_a_teacher_one(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 4)
    deltas = torch.eye(4) + 0.1 * torch.arange(4.0)[:, None]
    nearest = NearestTeacher(teachers, deltas)
    # A rotation of the rank leaves ΔW, so the ratio must not see it.
    q = torch.linalg.qr(torch.randn(4, 4, generator=torch.manual_seed(0)))[0]
    copy = LoRAWeights(
        tiny_spec,
        {p: q @ f[1:2] for p, f in teachers.lora_A.items()},
        {p: f[1:2] @ q.mT for p, f in teachers.lora_B.items()},
    )
    found = nearest.ratios(copy, deltas[1])
    assert found["delta_w"] == pytest.approx(0, abs=1e-3)
    assert found["delta"] == 0
    # Beside the others, one of them is as far as they are from each other.
    own = nearest.ratios(teachers.select([1]), deltas[1], leave_out=1)
    assert 0.8 < own["delta_w"] < 1.25
    assert 0.8 < own["delta"] < 1.25


def test_without_two_other_teachers_there_is_no_ratio(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 2)
    nearest = NearestTeacher(teachers, torch.eye(2))
    one = teachers.select([0])
    assert nearest.ratios(one, torch.ones(2), leave_out=0) == {"delta_w": None, "delta": None}
    same = NearestTeacher(teachers.select([0, 0]), torch.ones(2, 2))
    assert same.ratios(one, torch.ones(2)) == {"delta_w": None, "delta": None}


def test_silhouettes_see_tasks_in_deltas_and_in_updates_but_not_through_the_gauge(
    tiny_spec, make_teachers
) -> None:
    centres = make_teachers(tiny_spec, 2).select([0, 0, 0, 1, 1, 1])
    # Every adapter in a gauge of its own: the same updates, other factors.
    turns = torch.linalg.qr(torch.randn(6, 4, 4, generator=torch.manual_seed(0)))[0]
    turned = LoRAWeights(
        tiny_spec,
        {p: turns @ f for p, f in centres.lora_A.items()},
        {p: f @ turns.mT for p, f in centres.lora_B.items()},
    )
    deltas = torch.eye(2).repeat_interleave(3, 0)
    tasks, families = list("aaabbb"), ["one"] * 6
    found = clusters(deltas, turned, tasks, families)
    assert found["deltas"]["task"] == pytest.approx(1)
    assert found["updates"]["task"] == pytest.approx(1, abs=1e-3)
    assert found["weights"]["task"] < 0.5
    assert found["deltas"]["family"] is None  # one family has no silhouette


def test_a_label_for_each_has_no_silhouette() -> None:
    assert gram_silhouette(torch.eye(3), list("abc")) is None
    assert gram_silhouette(torch.eye(4), list("aabb")) == pytest.approx(0)
