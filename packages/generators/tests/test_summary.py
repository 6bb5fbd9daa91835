"""What was found on tasks becomes blocks: seeds stay apart, missing numbers leave arms out."""

import numpy as np
import pytest

from llgbm.generators.evaluation.summary import (
    alignment_block,
    arm_outcomes,
    behaviour_block,
    nearest_block,
    parse_block,
)
from llgbm.generators.evaluation.task_scores import TaskScores


def scores(task: str, **changes) -> TaskScores:
    """Four adapters on four examples: base, two generated, a teacher that text found too."""
    content = {
        "task": task,
        "split": "seen",
        "arms": {"base": [0], "generated": [1, 2], "teacher": [3], "nearest_text": [3]},
        "gold": [0, 1, 0, 1],
        "chosen": [[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]],
        "cosine": [None, 0.5, 0.7, 0.9],
        "kl": [0.4, 0.2, 0.1, 0.05],
        "nearest": {"generated": {"delta_w": [0.5, 0.7], "delta": [None, None]}},
        "parse_gold": [0, 1],
        "parsed": [[None, None], [0, None], [0, 0], [0, 1]],
    }
    return TaskScores(**{**content, **changes})


def test_arms_of_generators_keep_a_row_a_seed_and_others_are_averaged() -> None:
    two = scores("t", arms={"base": [0], "generated": [1, 2], "teacher": [1, 3]})
    found = arm_outcomes([two], generators=2)
    assert found["generated"]["t"].tolist() == [[1, 1, 0, 0], [1, 0, 1, 0]]
    assert found["teacher"]["t"].tolist() == [1, 1, 0.5, 0.5]
    assert arm_outcomes([two], generators=1)["generated"]["t"].tolist() == [1, 0.5, 0.5, 0]


def test_an_arm_that_a_task_lacks_is_left_out() -> None:
    lacking = scores("u", arms={"base": [0], "generated": [1, 2], "teacher": [3]})
    assert "nearest_text" not in arm_outcomes([scores("t"), lacking], 2)
    assert "nearest_text" not in behaviour_block([scores("t"), lacking], 0)
    assert "nearest_text" not in parse_block([scores("t"), lacking], 0)


def test_behaviour_needs_a_number_on_every_task() -> None:
    # A task's only teacher has no other teacher to be compared with.
    alone = scores("u", cosine=[None, 0.1, 0.1, None], kl=[0.4, 0.2, 0.1, None])
    found = behaviour_block([scores("t"), alone], 0)
    assert set(found) == {"base", "generated"}
    assert found["base"].cosine is None
    assert found["generated"].cosine.mean == pytest.approx((0.6 + 0.1) / 2)
    assert found["generated"].kl.mean == pytest.approx(0.15)
    assert found["generated"].kl.n == 2


def test_parsed_and_right_are_two_numbers() -> None:
    found = parse_block([scores("t"), scores("u", parse_gold=[], parsed=[[]] * 4)], 0)
    assert (found["base"].parsed.mean, found["base"].correct) == (0, None)
    assert found["generated"].parsed.mean == 0.75
    assert found["generated"].correct == pytest.approx(2 / 3)
    assert (found["teacher"].parsed.mean, found["teacher"].correct) == (1, 1)
    assert parse_block([scores("t", parse_gold=[])], 0) == {}


def test_ratios_that_are_not_defined_are_none() -> None:
    found = nearest_block([scores("t")], 0)
    assert found["generated"].delta_w.mean == pytest.approx(0.6)
    assert found["generated"].delta is None


def test_alignment_counts_an_adapter_once_and_leaves_the_base_out() -> None:
    found = alignment_block([scores("t")], 0)
    assert [point.arm for point in found.points] == ["generated", "generated", "teacher"]
    gains = [point.gain for point in found.points]
    assert gains == [0.5, 0.5, 1.0]
    cosines = [point.cosine for point in found.points]
    assert found.pearson.mean == pytest.approx(np.corrcoef(cosines, gains)[0, 1])
