import pytest

from llgbm.deltas.errors import SettingError
from llgbm.latentwire.data.passages import grams, held_out_grams, load_passages
from llgbm.latentwire.data.pretraining import PretrainingConfig, pretraining_batch
from llgbm.latentwire.data.reading import SHORTEST_QUESTION, load_reading, reading_batch
from llgbm.latentwire.data.sources import PretrainingSourceConfig, ReadingSourceConfig
from llgbm.latentwire.data.squad import load_squad


def test_no_passage_shares_words_with_what_is_asked_in_the_end() -> None:
    held_out = {
        g for each in ("validation", "test") for q in load_squad(each) for g in grams(q.context)
    }
    assert held_out == held_out_grams()
    passages = load_reading()
    assert len(passages) > 1000
    trained = {" ".join(question.context.split()) for question in load_squad("train")}
    for passage in passages:
        text = " ".join(passage.words)
        assert text in trained or held_out.isdisjoint(grams(text))


def test_every_answer_stands_where_it_is_said_to_stand() -> None:
    for passage in load_reading():
        for question, answer, first, last in passage.asked:
            held = " ".join(passage.words[first:last]).lower()
            assert " ".join(answer.split()).lower() in held
            assert last - first <= len(answer.split())
            assert question
    short = [
        question
        for passage in load_reading()
        for question, *_ in passage.asked
        if len(question.split()) < SHORTEST_QUESTION
    ]
    # SQuAD's own short questions stand on their own.
    assert set(short) <= {question.question for question in load_squad("train")}


def test_windows_hold_their_answers_and_are_the_same_for_a_step() -> None:
    passages = load_reading()
    for step in range(20):
        batch = reading_batch(passages, 60, 2, 4, step, 0)
        assert 4 <= len(batch) <= 8
        assert len({example.context for example in batch}) <= 4
        for example in batch:
            assert len(example.context.split()) <= 60
            assert " ".join(example.answer.split()).lower() in example.context.lower()
    assert reading_batch(passages, 60, 2, 4, 7, 0) == reading_batch(passages, 60, 2, 4, 7, 0)
    assert reading_batch(passages, 60, 2, 4, 7, 0) != reading_batch(passages, 60, 2, 4, 7, 1)


def test_held_out_questions_are_squads() -> None:
    source = ReadingSourceConfig(longest=80).open(0)
    asked = {(q.context, q.question) for q in load_squad("test")}
    found = source.questions("test")
    assert found
    assert {(e.context, e.ending.split("Question: ")[1].split("\n")[0]) for e in found} <= asked
    assert all(len(example.context.split()) <= 80 for example in found)


def test_a_window_too_short_for_an_answer_is_refused() -> None:
    with pytest.raises(SettingError, match="longest: expected at least 20, got 10"):
        ReadingSourceConfig(longest=10)


def test_quotations_of_a_step_share_their_context() -> None:
    config = PretrainingConfig(continuation=0, reconstruction=0, quotation=1, quotations=3)
    batch = pretraining_batch(load_passages(), config, 4, 0, 0)
    contexts = [example.context for example in batch]
    assert len(batch) == 12
    assert all(len(set(contexts[at : at + 3])) == 1 for at in range(0, 12, 3))
    for example in batch:
        cue = example.ending.split("Quote: ")[1]
        assert f"{cue} {example.answer}" in example.context
    # Held-out examples of every kind are as many, whatever a training step quotes.
    held_out = PretrainingSourceConfig(PretrainingConfig(quotations=3)).open(0).validation(6)
    assert [
        sum(each.mark == mark for each in held_out) for mark in ("continue", "reconstruct", "")
    ] == [2, 2, 2]
