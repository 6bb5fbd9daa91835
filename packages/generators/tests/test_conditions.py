"""Conditions: sets of texts become padded batches of embeddings."""

from __future__ import annotations

import hashlib

import pytest
import torch

from llgbm.generators.conditions import (
    Condition,
    ConditionBatch,
    answered,
    condition_from_answers,
    condition_from_description,
    condition_from_prompts,
    embed_conditions,
)
from llgbm.generators.text_encoder import EmbeddingCache


class HashEncoder:
    """Stand-in: eight numbers from a text's hash, and a record of what it was asked."""

    fingerprint = "ab" * 32

    def __init__(self):
        self.asked = []

    def encode(self, texts, batch_size=32):
        self.asked += texts
        rows = [list(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        return torch.tensor(rows, dtype=torch.float32) / 255


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("Question: 1+1?", "2", "Question: 1+1? 2"),
        ("Answer:", " two", "Answer: two"),
        ("Answer:\n", "two", "Answer:\ntwo"),
    ],
)
def test_prompt_and_answer_are_one_space_apart_unless_white_space_is_there(
    prompt, answer, expected
):
    assert answered(prompt, answer) == expected


def test_conditions_say_what_they_are_made_of():
    assert condition_from_prompts(["a", "b"]) == Condition(("a", "b"), "prompts")
    assert condition_from_answers(["a"], ["b"]) == Condition(("a b",), "prompts_with_answers")
    assert condition_from_description("do x").kind == "description"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: condition_from_prompts([]), "at least one, got none"),
        (lambda: condition_from_prompts(["a", "  "]), "no empty text, got one at 1"),
        (lambda: condition_from_answers(["a", "b"], ["c"]), "expected 2 as prompts, got 1"),
        (lambda: Condition(("a",), "poem"), "kind: expected one of"),
        (lambda: Condition("abc", "description"), "expected several texts, got 'abc'"),
        (lambda: Condition((1,), "prompts"), "expected texts, got 1 at 0"),
        (lambda: Condition(("a", "b\udcff"), "prompts"), "expected UTF-8, got .* at 1"),
        (lambda: ConditionBatch(torch.zeros(2, 3, 4), torch.zeros(2, 2)), "mask"),
        (lambda: ConditionBatch.of([torch.zeros(0, 4), torch.ones(1, 4)]), "got none"),
        (lambda: embed_conditions([], HashEncoder()), "at least one condition, got none"),
    ],
)
def test_bad_conditions_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_batch_holds_each_text_once_embedded_and_zeros_at_padding():
    encoder = HashEncoder()
    conditions = [
        condition_from_prompts(["a", "b", "c"]),
        condition_from_description("b"),
    ]
    batch = embed_conditions(conditions, encoder)
    assert encoder.asked == ["a", "b", "c"]
    assert batch.embeddings.shape == (2, 3, 8)
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert torch.equal(batch.embeddings[1, 0], batch.embeddings[0, 1])
    assert bool((batch.embeddings[1, 1:] == 0).all())
    assert torch.equal(batch.select([1]).embeddings, batch.embeddings[1:])


def test_a_cache_gives_the_same_batch_and_asks_once(tmp_path):
    encoder, cache = HashEncoder(), EmbeddingCache(tmp_path)
    conditions = [condition_from_prompts(["a", "b"])]
    plain = embed_conditions(conditions, HashEncoder())
    for _ in range(2):
        cached = embed_conditions(conditions, encoder, cache)
        assert torch.equal(cached.embeddings, plain.embeddings)
    assert encoder.asked == ["a", "b"]
