"""A detector that finds collapsed answers and passes healthy ones."""

import pytest

from llgbm.latentwire.collapse import CollapseConfig, CollapseDetector, CollapseError
from llgbm.latentwire.errors import ConfigError

HEALTHY = ["Paris", "1854", "the Danube", "two dogs", "Anna", "by the sea", "1854", "oxygen"] * 2
COLLAPSED = ["2019) 1. The answer is"] * 15 + ["Lampea"]


def test_healthy_answers_pass():
    verdict = CollapseDetector().require_health(HEALTHY)
    assert not verdict.collapsed
    assert verdict.distinct == 7 / 16
    assert (verdict.common, verdict.commonest) == (4 / 16, "1854")


def test_the_same_answer_to_all_is_a_collapse():
    detector = CollapseDetector()
    verdict = detector.examine(COLLAPSED)
    assert verdict.collapsed
    assert any("distinct" in reason for reason in verdict.reasons)
    assert any("2019 1 answer is" in reason for reason in verdict.reasons)
    with pytest.raises(CollapseError, match="distinct answers.*commonest answer"):
        detector.require_health(COLLAPSED)


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        (["", " "] * 5 + list("abcdefgh"), "empty answers"),
        ([f"{name} is a {name} is a {name} is a" for name in "bcdefghi"] + ["x"], "repeat"),
        ([*["yes"] * 6, *"bcde"], "commonest answer 'yes'"),
    ],
)
def test_each_sign_alone_is_named(answers, word):
    reasons = CollapseDetector().examine(answers).reasons
    assert any(word in reason for reason in reasons)


def test_few_different_answers_are_fine_where_there_are_few_right_ones():
    answers = ["yes"] * 14 + ["no"] * 6
    golds = ["yes"] * 12 + ["no"] * 8
    detector = CollapseDetector()
    assert detector.examine(answers).collapsed
    assert not detector.examine(answers, golds).collapsed
    collapsed = detector.examine(["yes"] * 20, ["yes", "no", "maybe", "never"] * 5)
    assert collapsed.collapsed


def test_thresholds_are_obeyed():
    strict = CollapseDetector(CollapseConfig(least_distinct=0.5, most_common=0.2))
    assert len(strict.examine(HEALTHY).reasons) == 2


def test_too_few_answers_and_bad_thresholds_are_refused():
    with pytest.raises(ConfigError, match="at least 8 answers, got 1"):
        CollapseDetector().examine(["Paris"])
    with pytest.raises(ConfigError, match="8 right answers, got 1"):
        CollapseDetector().examine(["a"] * 8, ["b"])
    with pytest.raises(ConfigError, match="most_empty"):
        CollapseConfig(most_empty=1.5)
