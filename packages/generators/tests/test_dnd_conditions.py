"""Conditions of many prompts, token by token."""

from __future__ import annotations

import pytest
import torch

from llgbm.deltas.errors import SettingError
from llgbm.generators.dnd.conditions import dnd_conditions, sample_prompts
from llgbm.generators.text_encoder import PretrainedTextEncoder


class LetterEncoder:
    """Stand-in: a letter's code twice, zero at padding; records what it was asked."""

    def __init__(self):
        self.asked = []

    def token_states(self, texts, length):
        self.asked += texts
        rows = [[ord(letter) for letter in text.ljust(length, "\0")[:length]] for text in texts]
        return torch.tensor(rows, dtype=torch.float32)[..., None].expand(-1, -1, 2)


def test_conditions_hold_the_first_prompts_padded_and_cut():
    states = dnd_conditions([["ab", "abcd", "z"], ["c", "ab"]], LetterEncoder(), 2, 3)
    assert states.shape == (2, 2, 3, 2)
    assert states[..., 0].tolist() == [
        [[97, 98, 0], [97, 98, 99]],
        [[99, 0, 0], [97, 98, 0]],
    ]


def test_a_prompt_of_several_sets_is_encoded_once():
    encoder = LetterEncoder()
    dnd_conditions([["a", "b"], ["b", "a"], ["a", "c"]], encoder, 2, 1)
    assert encoder.asked == ["a", "b", "c"]


def test_the_real_encoder_gives_conditions_of_its_width():
    sets = [["What is 1 + 1?", "Name a river."], ["Name a river.", "Who wrote Faust?"]]
    states = dnd_conditions(sets, PretrainedTextEncoder(), 2, 16)
    assert states.shape == (2, 2, 16, 384)
    assert torch.equal(states[0, 1], states[1, 0])
    assert not torch.equal(states[0, 0], states[1, 1])


def test_drawn_prompts_are_distinct_and_follow_the_generator():
    texts = [str(number) for number in range(50)]
    first, again = (sample_prompts(texts, 20, torch.Generator().manual_seed(1)) for _ in range(2))
    other = sample_prompts(texts, 20, torch.Generator().manual_seed(2))
    assert first == again != other
    assert len(set(first)) == 20
    assert set(first) <= set(texts)


def test_too_few_prompts_are_named():
    with pytest.raises(SettingError, match="condition 1: prompts: expected at least 2, got 1"):
        dnd_conditions([["a", "b"], ["c"]], LetterEncoder(), 2, 3)
    with pytest.raises(SettingError, match="texts: prompts: expected at least 3, got 2"):
        sample_prompts(["a", "b"], 3, torch.Generator())
    with pytest.raises(SettingError, match="prompts: expected at least 1, got 0"):
        dnd_conditions([["a"]], LetterEncoder(), 0, 3)
    with pytest.raises(SettingError, match="at least one set of prompts"):
        dnd_conditions([], LetterEncoder(), 1, 3)
