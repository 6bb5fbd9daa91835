import math

import pytest
import torch

from llgbm.deltas.errors import ModelError
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.prefix import empty_prefix, replayed
from llgbm.latentwire.reader import Reader, load_reader, shown_name
from llgbm.latentwire.rows import build_rows
from llgbm.latentwire.scoring import score


@pytest.fixture(scope="module")
def reader():
    return load_reader(dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def asked():
    return [q.example for q in sorted(load_squad("test"), key=lambda q: len(q.context))[:3]]


def test_text_nll_is_below_a_uniform_guess_and_context_helps(reader, asked) -> None:
    endings = [reader.tokens(each.ending) for each in asked]
    answers = [reader.answer_tokens(each.answer, end=False) for each in asked]
    contexts = [reader.tokens(each.context) for each in asked]
    full = score(reader, replayed(reader, contexts), endings, answers).nll.mean()
    none = score(reader, empty_prefix(reader, 3), endings, answers).nll.mean()
    assert full < none < math.log(reader.vocabulary)


def test_greedy_writing_equals_the_models_own_generation(reader, asked) -> None:
    texts = []
    for each in asked:
        context, ending = reader.tokens(each.context), reader.tokens(each.ending)
        ids = torch.tensor([[*reader.opening, *context, *ending]])
        output = reader.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6,
            do_sample=False, pad_token_id=reader.pad,
        )  # fmt: skip
        new = output[0, ids.shape[1] :].tolist()
        decoding = DecodingConfig(max_new_tokens=6)
        found = write(reader, replayed(reader, [context]), [ending], decoding)
        assert found.texts == [reader.text_of(new)]
        assert new[: len(found.tokens[0])] == found.tokens[0]
        texts += found.texts
    assert any(texts)


def test_padding_stands_on_the_side_that_is_asked_for(tiny_reader) -> None:
    prefix = replayed(tiny_reader, [[1, 2, 3], [4]])
    opening = len(tiny_reader.opening)
    left = build_rows(tiny_reader, prefix, [[], []], padding_side="left")
    right = build_rows(tiny_reader, prefix, [[], []], padding_side="right")
    lengths = [opening + 3, opening + 1]
    for row, length in enumerate(lengths):
        assert left.mask[row].tolist() == sorted(left.mask[row].tolist())
        assert int(left.mask[row].sum()) == int(right.mask[row].sum()) == length
        assert torch.equal(left.embeds[row, left.mask[row]], right.embeds[row, right.mask[row]])


def test_a_reader_that_trains_is_refused(tiny_reader) -> None:
    from copy import deepcopy

    with pytest.raises(ModelError, match="frozen"):
        Reader(deepcopy(tiny_reader.model).requires_grad_(True), tiny_reader.tokenizer)


def test_results_do_not_say_where_a_reader_lies(tmp_path) -> None:
    assert shown_name(str(tmp_path / "tuned")) == "tuned"
    assert shown_name("smollm2-135m") == "smollm2-135m"
    assert shown_name("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert shown_name("../tuned") == "tuned"
