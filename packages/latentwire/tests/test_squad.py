import pytest

from llgbm.deltas.errors import TaskError
from llgbm.latentwire.data.squad import SPLITS, load_squad


def test_no_article_stands_in_two_splits_and_none_is_lost() -> None:
    splits = {split: load_squad(split) for split in SPLITS}
    titles = [{question.title for question in questions} for questions in splits.values()]
    assert sum(map(len, splits.values())) == 1000
    assert sum(map(len, titles)) == len(set.union(*titles)) == 48


def test_the_answer_stands_in_the_context_of_nearly_every_question() -> None:
    questions = load_squad("test")
    inside = sum(any(a in q.context for a in q.answers) for q in questions)
    assert inside / len(questions) > 0.99
    assert questions[0].prompt.endswith("\nAnswer:")


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(TaskError, match="expected one of"):
        load_squad("dev")
