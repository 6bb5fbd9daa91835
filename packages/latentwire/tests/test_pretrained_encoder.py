"""The pretrained encoder's settings: fewer layers, both directions, a copy of its own."""

import pytest
import torch

from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError

TEXTS = ["Snow is white and the sea is blue.", "Ben has two dogs."]


def states(reader, texts, **settings):
    with torch.no_grad():
        return PretrainedEncoderConfig(tuning="frozen", **settings).build(reader)(texts)


def test_as_many_layers_as_asked_for_are_run(tiny_reader) -> None:
    body = tiny_reader.model.get_decoder()
    ids = torch.tensor([tiny_reader.tokens(TEXTS[0])])
    with torch.no_grad():
        hidden = body(input_ids=ids, output_hidden_states=True).hidden_states
        expected = body.norm(hidden[2])
    found = states(tiny_reader, TEXTS[:1], layers=2)
    torch.testing.assert_close(found.values, expected, atol=1e-5, rtol=1e-5)
    assert len(body.layers) == tiny_reader.layers  # the reader keeps its own
    whole = states(tiny_reader, TEXTS[:1]).values
    torch.testing.assert_close(states(tiny_reader, TEXTS[:1], layers=3).values, whole)
    with pytest.raises(ConfigError, match="encoder.layers: expected 0 to 3, got 4"):
        PretrainedEncoderConfig(layers=4).build(tiny_reader)


def test_a_lora_stands_on_the_layers_that_are_run(tiny_reader) -> None:
    encoder = PretrainedEncoderConfig(layers=1, r=2).build(tiny_reader)
    layers = {name.split("/")[2] for name, _ in encoder.lora.named_parameters()}
    assert layers == {"0"}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_stands_after_a_token_matters_in_both_directions_alone(
    bidirectional, tiny_reader
) -> None:
    texts = ["Snow is white and blue.", "Snow is white and red."]
    found = states(tiny_reader, texts, bidirectional=bidirectional).values
    same = torch.allclose(found[0, 0], found[1, 0], atol=1e-6)
    assert same is not bidirectional


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_text_is_the_same_in_any_batch(bidirectional, tiny_reader) -> None:
    together = states(tiny_reader, TEXTS, bidirectional=bidirectional)
    for row, text in enumerate(TEXTS):
        alone = states(tiny_reader, [text], bidirectional=bidirectional)
        torch.testing.assert_close(
            together.values[row][together.mask[row]], alone.values[0], atol=1e-5, rtol=1e-5
        )


def test_a_copy_of_its_own_is_trained_and_the_reader_is_not(tiny_reader) -> None:
    encoder = PretrainedEncoderConfig(tuning="full").build(tiny_reader)
    before = tiny_reader.fingerprint
    named = dict(encoder.named_parameters())
    assert all(each.requires_grad for each in named.values())
    optimizer = torch.optim.SGD(named.values(), lr=0.1)
    encoder(TEXTS).values.square().mean().backward()
    assert all(each.grad is not None and each.grad.any() for each in named.values())
    optimizer.step()
    tiny_reader.__dict__.pop("fingerprint", None)
    assert tiny_reader.fingerprint == before
    assert not torch.allclose(encoder(TEXTS).values, states(tiny_reader, TEXTS).values, atol=1e-4)
