from hypothesis import given
from hypothesis import strategies as st

from llgbm.latentwire.metrics import (
    distinct_rate,
    empty_rate,
    exact_match,
    f1_score,
    normalised,
    repetition_rate,
)


def test_official_normalisation_drops_articles_case_and_punctuation() -> None:
    assert normalised("  The  Eiffel-Tower, a wonder! ") == "eiffeltower wonder"


def test_f1_takes_the_best_gold_and_counts_words_once() -> None:
    assert f1_score("a red red car", ["blue car", "red car"]) == 2 * (2 / 3) / (2 / 3 + 1)
    assert f1_score("", ["x"]) == 0.0
    assert exact_match("THE x.", ["y", "x"]) == 1.0


@given(st.text(min_size=1))
def test_a_prediction_equal_to_its_answer_is_perfect(text: str) -> None:
    assert exact_match(text, [text]) == 1.0
    assert f1_score(text, [text]) == 1.0


def test_collapse_signs() -> None:
    assert empty_rate(["", " ", "a"]) == 2 / 3
    assert distinct_rate(["cat", "Cat", "the cat", "dog"]) == 0.5
    assert repetition_rate(["x y z x y z", "x y z"]) == 0.5
