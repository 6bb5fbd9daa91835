"""Free answers: many adapters at once give what one at a time gives, and are parsed as choices."""

import pytest

from llgbm.deltas.task import Example
from llgbm.generators.answer import greedy_answer
from llgbm.generators.evaluation.greedy import greedy_answers
from llgbm.generators.evaluation.parse_rate import answerable, normalised, parsed_choice

QUERIES = ["What is it?", "Short", "A much longer question that stands alone, answer:"]


@pytest.mark.parametrize("rows", [1, 64])
def test_batched_answers_equal_single_ones(
    make_tiny_model, tokenizer, tiny_spec, make_teachers, rows
) -> None:
    model, weights = make_tiny_model(), make_teachers(tiny_spec, 3)
    found = greedy_answers(model, tokenizer, QUERIES, weights, 6, rows_at_once=rows)
    expected = [
        [greedy_answer(model, tokenizer, q, weights.select([n]), 6) for q in QUERIES]
        for n in range(3)
    ]
    assert found == expected
    assert len({answer for row in found for answer in row}) > 3  # not all the same by chance


def test_an_answer_is_the_longest_choice_that_it_begins_with() -> None:
    choices = (" Paris", " New York", " New York City", " no")
    assert parsed_choice("paris", choices) == 0
    assert parsed_choice("Paris. It is the capital", choices) == 0
    assert parsed_choice("New York City, of course", choices) == 2
    assert parsed_choice("new york", choices) == 1
    assert parsed_choice("nothing", choices) is None  # a word, not the start of one
    assert parsed_choice("The answer is Paris", choices) is None
    assert parsed_choice("", choices) is None


def test_numbers_and_signs_keep_their_meaning() -> None:
    assert normalised("  “12.5” ") == "12.5"
    assert parsed_choice("-3", (" 3", " -3")) == 1
    assert parsed_choice("12.", (" 1", " 12")) == 1


def test_only_choices_that_fit_into_an_answer_can_be_parsed(tokenizer) -> None:
    examples = [Example(str(n), ("a" * n, "b"), 0) for n in range(1, 9)]
    assert answerable(tokenizer, examples, 99, 4) == examples[:4]
    assert answerable(tokenizer, examples, 2, 4) == examples[:2]
    assert answerable(tokenizer, examples[6:], 2, 4) == []
