import math

import pytest
import torch

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import TaskError
from llgbm.latentwire.baselines import BASELINES, prompts_of
from llgbm.latentwire.measure import BaselinesConfig, baselines
from llgbm.latentwire.reader import answer, left_padded, likelihood
from llgbm.latentwire.squad import load_squad


@pytest.fixture(scope="module")
def reader():
    return load_base_model("smollm2-135m", dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def questions():
    return sorted(load_squad("test"), key=lambda q: len(q.context))[:3]


def test_embedding_replay_answers_as_text_does(reader, questions) -> None:
    prompts = prompts_of(BASELINES["text"], reader[1], questions, 4)
    plain = answer(*reader, prompts, max_new_tokens=6)
    replayed = answer(*reader, prompts, max_new_tokens=6, as_embeddings=True)
    assert plain.texts == replayed.texts
    assert any(plain.texts)


def test_text_nll_is_below_a_uniform_guess_and_context_helps(reader, questions) -> None:
    golds = [q.answers[0] for q in questions]
    full = likelihood(*reader, prompts_of(BASELINES["text"], reader[1], questions, 4), golds)
    none = likelihood(*reader, prompts_of(BASELINES["no_context"], reader[1], questions, 4), golds)
    assert full.nll < none.nll < math.log(49152)


def test_budgets_keep_what_they_say(reader, questions) -> None:
    tokenizer = reader[1]
    ending = tokenizer(questions[0].ending)["input_ids"]
    context = tokenizer(questions[0].context)["input_ids"]
    kept = prompts_of(BASELINES["budget_question_kept"], tokenizer, questions[:1], 4)[0]
    assert kept[-len(ending) :] == ending
    assert len(kept) == round(len(context) / 4) + len(ending)
    for name in ("budget_head", "budget_tail"):
        assert len(prompts_of(BASELINES[name], tokenizer, questions[:1], 4)[0]) == round(
            len(context) / 4
        )


def test_padding_stands_on_the_left() -> None:
    ids, mask = left_padded([[1, 2, 3], [4]], pad=9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_ratio_below_one_is_refused() -> None:
    with pytest.raises(TaskError, match="at least 1"):
        baselines(BaselinesConfig(ratio=0.5))
