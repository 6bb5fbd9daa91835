import inspect

import pytest
import torch
from torch import Tensor, nn

from llgbm.deltas.errors import ModelError
from llgbm.deltas.packaged import minilm_folder
from llgbm.latentwire.encoders import ENCODERS, PARTS, Encoder
from llgbm.latentwire.encoders.byte import ByteEncoder, ByteEncoderConfig
from llgbm.latentwire.encoders.embeddings import EmbeddingsEncoderConfig
from llgbm.latentwire.encoders.interlingua import InterlinguaEncoder, InterlinguaEncoderConfig
from llgbm.latentwire.encoders.sentence import STQueryEncoder, STQueryEncoderConfig
from llgbm.latentwire.encoders.sentence_model import SentenceModel
from llgbm.latentwire.encoders.simple import SimpleEncoderConfig
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.latents import States
from llgbm.latentwire.reader import Reader

TEXTS = ["Anna lives in a house by the sea.", "Snow is white."]
SMALL = {
    "byte": ByteEncoderConfig(width=32, layers=2, heads=4),
    "sentence": STQueryEncoderConfig(queries=8, width=32, heads=4),
    "simple": SimpleEncoderConfig(states=4, width=32),
    "interlingua": InterlinguaEncoderConfig(width=32, layers=1, heads=4, anchors=3),
    "embeddings": EmbeddingsEncoderConfig(),
}


def built(name: str, reader: Reader) -> Encoder:
    torch.manual_seed(0)
    encoder: Encoder = SMALL[name].build(reader).eval()
    return encoder


@pytest.fixture(scope="module")
def minilm() -> SentenceModel:
    return SentenceModel()


@pytest.fixture(scope="module")
def other_reader(tiny_reader: Reader) -> Reader:
    """Another model of another width."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Reader(model, tiny_reader.tokenizer, "other")


def rms(values: Tensor) -> float:
    return float(values.detach().square().mean().sqrt())


def test_configs_are_registered_under_their_names() -> None:
    # The encoder `cache` has tests of its own.
    assert set(ENCODERS) == {*SMALL, "pretrained", "cache"}
    assert {ENCODERS[name] for name in ENCODERS} == set(PARTS)


@pytest.mark.parametrize("name", SMALL)
def test_an_encoder_is_given_texts_and_nothing_else(name: str, tiny_reader: Reader) -> None:
    forward = type(built(name, tiny_reader)).forward
    assert list(inspect.signature(forward).parameters) == ["self", "texts"]


@pytest.mark.parametrize("name", SMALL)
def test_states_do_not_depend_on_the_batch(name: str, tiny_reader: Reader) -> None:
    encoder = built(name, tiny_reader)
    together = encoder(TEXTS)
    assert together.values.dtype == torch.float32
    for place, text in enumerate(TEXTS):
        alone = encoder([text])
        assert int(together.lengths[place]) == alone.values.shape[1]
        # Sums of other lengths round otherwise.
        torch.testing.assert_close(
            together.values[place, together.mask[place]], alone.values[0], atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize("name", SMALL)
def test_states_in_training_are_those_of_evaluation(name: str, tiny_reader: Reader) -> None:
    encoder = built(name, tiny_reader)
    trained = encoder.train()(TEXTS)
    with torch.no_grad():
        evaluated = encoder.eval()(TEXTS)
    # Fused kernels, which torch takes without gradients only, round otherwise.
    torch.testing.assert_close(
        trained.values[trained.mask], evaluated.values[trained.mask], atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_text_without_a_token_is_refused(name: str, tiny_reader: Reader) -> None:
    with pytest.raises(PromptError, match=r"text 2: expected .+, got (none|0)$"):
        built(name, tiny_reader)(["Snow.", ""])


@pytest.mark.parametrize("name", ["sentence", "simple", "interlingua", "embeddings"])
def test_frozen_weights_are_in_no_state_dict(name: str, tiny_reader: Reader) -> None:
    encoder = built(name, tiny_reader).train()
    held = encoder.state_dict()
    assert set(held) == {key for key, each in encoder.named_parameters() if each.requires_grad}
    assert sum(each.numel() for each in held.values()) < 100_000
    assert not any(module.training for module in tiny_reader.model.modules())


def test_bytes_are_the_utf8_bytes_and_padding_is_masked(tiny_reader: Reader) -> None:
    encoder = built("byte", tiny_reader)
    assert isinstance(encoder, ByteEncoder)
    texts = ["Ünï → 雪", "ab"]
    ids, mask = encoder.bytes_of(texts)
    for row, real, text in zip(ids, mask, texts, strict=True):
        assert bytes(row[real].tolist()) == text.encode("utf-8")
        assert real[: len(text.encode("utf-8"))].all()


def test_the_default_reads_2048_bytes_with_six_layers(tiny_reader: Reader) -> None:
    config = ByteEncoderConfig()
    assert (config.limit, config.layers) == (2048, 6)
    encoder = ByteEncoderConfig(width=8, layers=1, heads=1).build(tiny_reader)
    with torch.no_grad():
        assert encoder(["é" * 1024]).values.shape == (1, 2048, 8)
    with pytest.raises(PromptError, match="text 1: expected 1 to 2048 UTF-8 bytes, got 2050"):
        encoder(["é" * 1025])


def test_the_order_of_bytes_matters(tiny_reader: Reader) -> None:
    encoder = built("byte", tiny_reader)
    first, second = encoder(["ab"]).values[0], encoder(["ba"]).values[0]
    assert not torch.allclose(first, second.flip(0), atol=1e-2)


def test_text_that_utf8_cannot_write_is_refused(tiny_reader: Reader) -> None:
    with pytest.raises(PromptError, match="text 1: expected Unicode text"):
        built("byte", tiny_reader)(["\ud800"])


def test_states_of_a_text_that_fits_are_the_models_own(minilm: SentenceModel) -> None:
    read = minilm.states(TEXTS)
    for place, text in enumerate(TEXTS):
        encoded = minilm.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = minilm.model(**encoded).last_hidden_state[0]
        torch.testing.assert_close(
            read.values[place, read.mask[place]], hidden[1:-1], atol=1e-5, rtol=1e-4
        )


def test_chunks_cover_every_token_in_order(minilm: SentenceModel) -> None:
    chunked = SentenceModel(chunk=12)
    ids = minilm.tokenizer(TEXTS[0] * 4, add_special_tokens=False)["input_ids"]
    read = chunked.states([TEXTS[0] * 4, TEXTS[1]])
    assert read.lengths.tolist() == [len(ids), 4]
    opening, closing = minilm.tokenizer.cls_token_id, minilm.tokenizer.sep_token_id
    for start in range(0, len(ids), 10):
        piece = ids[start : start + 10]
        with torch.no_grad():
            hidden = minilm.model(torch.tensor([[opening, *piece, closing]])).last_hidden_state
        torch.testing.assert_close(
            read.values[0, start : start + len(piece)], hidden[0, 1:-1], atol=1e-5, rtol=1e-4
        )


def test_a_text_beyond_the_models_reach_is_read_to_its_end(minilm: SentenceModel) -> None:
    assert minilm.chunk == 512
    assert minilm.states(["sea " * 700]).values.shape == (1, 700, 384)


def test_special_tokens_that_a_text_spells_are_part_of_it(minilm: SentenceModel) -> None:
    assert minilm.states(["a [SEP] b"]).values.shape[1] == 3


def test_an_embedding_is_the_normed_mean_with_special_tokens(minilm: SentenceModel) -> None:
    embeddings = minilm.embedding(TEXTS)
    for embedding, text in zip(embeddings, TEXTS, strict=True):
        with torch.no_grad():
            hidden = minilm.model(**minilm.tokenizer(text, return_tensors="pt")).last_hidden_state
        mean = hidden[0].mean(0)
        torch.testing.assert_close(embedding, mean / mean.norm(), atol=1e-6, rtol=1e-4)


def test_the_end_of_a_long_text_is_in_its_embedding() -> None:
    chunked = SentenceModel(chunk=12)
    first, second = chunked.embedding([TEXTS[0] * 4 + end for end in (" cats", " tax law")])
    assert float(first @ second) < 0.999


def test_a_sentence_model_that_is_none_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="expected a sentence transformer, got"):
        SentenceModel(str(tmp_path))


@pytest.mark.parametrize("chunk", [2, 513])
def test_a_chunk_out_of_range_is_refused(chunk: int) -> None:
    with pytest.raises(ConfigError, match=f"expected 3 to 512 tokens, got {chunk}"):
        SentenceModel(str(minilm_folder()), chunk=chunk)


def test_the_gate_starts_as_far_open_as_asked(tiny_reader: Reader) -> None:
    encoder = built("sentence", tiny_reader)
    assert isinstance(encoder, STQueryEncoder)
    opened = encoder.gate(torch.randn(64, 32)).detach()
    assert 0.05 < float(opened.min()) < float(opened.mean()) < 0.15


def test_every_part_of_the_gated_queries_gets_a_gradient(tiny_reader: Reader) -> None:
    encoder = built("sentence", tiny_reader)
    encoder(TEXTS).values.pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_slots_stand_in_the_order_of_the_text(tiny_reader: Reader, monkeypatch) -> None:
    encoder = built("sentence", tiny_reader)
    assert isinstance(encoder, STQueryEncoder)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 64, 384, generator=generator).repeat(9, 1, 1)
    for piece in range(8):
        values[piece, 8 * piece : 8 * piece + 8] *= -1
    read = States(values, torch.ones(9, 64, dtype=torch.bool))
    monkeypatch.setattr(encoder._sentence[0], "states", lambda texts: read)
    slots = encoder(["text"] * 9).values.detach()
    most_moved = (slots[:8] - slots[8]).norm(dim=-1).argmax(1)
    # Neighbours overlap: the widest head of a slot sees all of a text this short.
    assert int((most_moved - torch.arange(8)).abs().max()) <= 1


def test_gated_queries_see_what_lies_behind_the_first_chunk(tiny_reader: Reader) -> None:
    torch.manual_seed(0)
    encoder = STQueryEncoderConfig(chunk=12, queries=8, width=32, heads=4).build(tiny_reader)
    first, second = encoder([TEXTS[0] * 4 + end for end in (" cats", " rats")]).values.detach()
    assert float((first - second)[-1].abs().max()) > 1e-2


def test_simple_states_are_a_projection_of_one_embedding(
    tiny_reader: Reader, minilm: SentenceModel
) -> None:
    encoder = built("simple", tiny_reader)
    states = encoder(TEXTS)
    assert states.values.shape == (2, 4, 32)
    assert states.mask.all()
    assert isinstance(encoder.project, nn.Linear)
    expected = encoder.project(minilm.embedding(TEXTS)).view(2, 4, 32)
    torch.testing.assert_close(states.values, expected)
    assert 0.8 < rms(states.values) < 1.2


def test_interlingua_states_stand_for_the_readers_tokens(tiny_reader: Reader) -> None:
    states = built("interlingua", tiny_reader)(TEXTS)
    plain = built("embeddings", tiny_reader)(TEXTS)
    assert InterlinguaEncoderConfig().width == 512
    assert states.lengths.tolist() == [len(tiny_reader.tokens(text)) for text in TEXTS]
    assert states.inputs is not None
    assert torch.equal(states.inputs, plain.values)


def test_the_sentence_embedding_moves_the_shared_space(tiny_reader: Reader) -> None:
    encoder = built("interlingua", tiny_reader)
    assert isinstance(encoder, InterlinguaEncoder)
    tokens = built("embeddings", tiny_reader)(TEXTS[:1])
    generator = torch.Generator().manual_seed(0)
    anchors = nn.functional.normalize(torch.randn(2, 1, 384, generator=generator), dim=-1)
    first, second = (encoder.alignment([tokens], anchor).detach() for anchor in anchors)
    assert float((first - second).abs().max()) > 1e-2


def test_each_model_has_its_own_projection_into_the_shared_space(
    tiny_reader: Reader, other_reader: Reader, minilm: SentenceModel
) -> None:
    torch.manual_seed(0)
    config = InterlinguaEncoderConfig(width=32, layers=1, heads=4, anchors=3)
    encoder = InterlinguaEncoder(config, [tiny_reader, other_reader], minilm).eval()
    both = encoder(TEXTS)
    assert [each.in_features for each in encoder.alignment.projections] == [64, 16]
    assert both.lengths.tolist() == [len(tiny_reader.tokens(text)) for text in TEXTS]
    alone = encoder(TEXTS[1:])
    torch.testing.assert_close(both.values[1, both.mask[1]], alone.values[0], atol=2e-5, rtol=1e-4)
    both.values[both.mask].pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_a_single_anchor_is_refused(tiny_reader: Reader) -> None:
    with pytest.raises(ConfigError, match="encoder.anchors: expected at least 2, got 1"):
        InterlinguaEncoderConfig(anchors=1).build(tiny_reader)


def test_embeddings_are_looked_up_and_nothing_is_trained(tiny_reader: Reader) -> None:
    encoder = built("embeddings", tiny_reader)
    states = encoder(["cat cat cat", "dog"])
    assert not list(encoder.parameters())
    assert states.inputs is not None
    assert torch.equal(states.inputs, states.values)
    ids = tiny_reader.tokens("cat cat cat")
    assert torch.equal(states.values[0], tiny_reader.embedding[ids])
    assert torch.equal(states.values[0, 1], states.values[0, 2])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ByteEncoderConfig(width=30, heads=4), "encoder.heads: expected a divisor of 30, got 4"),
        (ByteEncoderConfig(layers=0), "expected numbers of at least 1"),
        (STQueryEncoderConfig(gate=0.0), "encoder.gate: expected between 0 and 1, got 0"),
        (STQueryEncoderConfig(heads=5), "heads that divide the width, got 64, 5, 384"),
        (SimpleEncoderConfig(states=0), "states and width of at least 1, got 0, 256"),
        (InterlinguaEncoderConfig(width=36, heads=8), "even multiple of 8 heads, got 36"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(config, message: str, tiny_reader: Reader) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(tiny_reader)
