"""What positions of a text are looked at for while the text is written again."""

from copy import deepcopy

import pytest
import torch

from llgbm.deltas.errors import ModelError
from llgbm.latentwire.attention_received import BETWEEN, attention_received
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.reader import Reader

TEXTS = ["Anna lives in a house by the sea.", "Snow is white."]


def naive(reader: Reader, text: str) -> torch.Tensor:
    """The same from the weights that the model itself reports, one text."""
    model = deepcopy(reader.model)
    model.set_attn_implementation("eager")
    row, between = reader.tokens(text), reader.tokens(BETWEEN)
    begin = len(reader.opening)
    ids = torch.tensor([[*reader.opening, *row, *between, *row]])
    weights = torch.stack(model(ids, output_attentions=True).attentions)[:, 0]
    first = ids.shape[1] - len(row) - 1
    told = weights[:, :, first:-1, begin : begin + len(row)].amax(2)
    # [layers, heads, t] to [t, layers, kv_heads].
    return told.unflatten(1, (reader.kv_heads, -1)).amax(2).permute(2, 0, 1)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text"])
def test_it_is_the_largest_weight_that_the_model_itself_reports(kind, model_of) -> None:
    reader = model_of(kind)
    found = attention_received(reader, TEXTS)
    for place, text in enumerate(TEXTS):
        expected = naive(reader, text)
        torch.testing.assert_close(found[place, : len(expected)], expected, atol=1e-5, rtol=1e-4)
        assert not found[place, len(expected) :].any()


def test_queries_in_blocks_find_the_same(tiny_reader, monkeypatch) -> None:
    whole = attention_received(tiny_reader, TEXTS)
    monkeypatch.setattr("llgbm.latentwire.attention_received.BLOCK", 5)
    torch.testing.assert_close(attention_received(tiny_reader, TEXTS), whole)


def test_the_reader_attends_as_before_afterwards(tiny_reader, monkeypatch) -> None:
    before = tiny_reader.config._attn_implementation
    attention_received(tiny_reader, TEXTS)
    assert tiny_reader.config._attn_implementation == before
    monkeypatch.setattr(
        "llgbm.latentwire.attention_received.decode", lambda *_: (_ for _ in ()).throw(KeyError)
    )
    with pytest.raises(KeyError):
        attention_received(tiny_reader, TEXTS)
    assert tiny_reader.config._attn_implementation == before


@pytest.mark.parametrize("text", ["", "word " * 300], ids=["empty", "long"])
def test_texts_that_cannot_be_read_twice_are_refused(tiny_reader, text) -> None:
    with pytest.raises(PromptError, match=r"expected 1 to 25\d tokens, which tiny can read twice"):
        attention_received(tiny_reader, ["Snow is white.", text])


def test_attention_that_is_more_than_a_softmax_of_scores_is_refused(model_of) -> None:
    reader = model_of("gemma2", attn_logit_softcapping=50.0)
    with pytest.raises(ModelError, match="heads: expected .* got .* soft cap 50"):
        attention_received(reader, TEXTS)
