import copy

import pytest
import torch

from llgbm.deltas.next_tokens import next_token_logits
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rows import build_rows
from llgbm.latentwire.scoring import cache_of, decode, score
from llgbm.latentwire.ways import PARTS, WAYS
from llgbm.latentwire.ways.coprocessor import CoprocessorWayConfig
from llgbm.latentwire.ways.deep_prefix import DeepPrefixWayConfig
from llgbm.latentwire.ways.embeddings import EmbeddingsWayConfig
from llgbm.latentwire.ways.inner import InnerWayConfig
from llgbm.latentwire.ways.lora import LoRAWayConfig
from llgbm.latentwire.ways.reading import short_reading

CHANGING = {
    "lora": LoRAWayConfig(r=4, layers=2),
    "inner": InnerWayConfig(layers=(0, 2), width=32),
    "inner, no prefix": InnerWayConfig(layers=(1,), width=32, prefix=False),
    "coprocessor": CoprocessorWayConfig(hidden=32),
}
ALL = {
    "embeddings": EmbeddingsWayConfig(),
    "deep_prefix": DeepPrefixWayConfig(hidden=32),
    "deep_prefix, slots only": DeepPrefixWayConfig(hidden=32, first=False),
    **CHANGING,
}


def scored(compressor, reader, latents, asked, attached=True, **options):
    prefix = compressor.prefix(latents)
    if not attached:
        return score(reader, prefix, *asked, **options)
    with compressor.attached(latents):
        return score(reader, prefix, *asked, **options)


def one_row(latents: Latents, index: int) -> Latents:
    return Latents(
        latents.row(index)[None], latents.mask[index : index + 1, : latents.counts[index]]
    )


def plain_logits(reader: Reader) -> torch.Tensor:
    ids = torch.tensor([reader.tokens("Snow is white and the sea is blue.")])
    return reader.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_every_way_is_registered() -> None:
    assert set(WAYS.values()) == set(PARTS)
    assert {"embeddings", "deep_prefix", "lora", "inner", "coprocessor"} <= set(WAYS)


@pytest.mark.parametrize("name", ALL)
def test_labels_skip_the_prefix(name, tiny_reader, texts, asked, made) -> None:
    plain, compressor = made(tiny_reader, EmbeddingsWayConfig()), made(tiny_reader, ALL[name])
    expected = scored(plain, tiny_reader, plain.encode(texts), asked)
    found = scored(compressor, tiny_reader, compressor.encode(texts), asked)
    for field in ("row", "step", "targets"):
        assert torch.equal(getattr(found, field), getattr(expected, field))
    assert found.targets.tolist() == [token for answer in asked[1] for token in answer]


@pytest.mark.parametrize("name", ALL)
def test_writing_with_a_cache_equals_reading_all_again_for_every_token(
    name, tiny_reader, texts, asked, made
) -> None:
    compressor = made(tiny_reader, ALL[name])
    endings = asked[0]
    with torch.no_grad():
        latents = compressor.encode(texts)
        assert len(set(latents.counts.tolist())) > 1
        with compressor.attached(latents):
            settings = DecodingConfig(max_new_tokens=6, eos_ban_steps=6)
            found = write(tiny_reader, compressor.prefix(latents), endings, settings).tokens
        for index, ending in enumerate(endings):
            row = one_row(latents, index)
            tokens: list[int] = []
            with compressor.attached(row):
                for _ in found[index]:
                    prefix = compressor.prefix(row)
                    rows = build_rows(tiny_reader, prefix, [[*ending, *tokens]])
                    state = decode(tiny_reader, rows.embeds, rows.mask, prefix).last_hidden_state
                    logits = next_token_logits(tiny_reader.model, state[:, -1])
                    logits[:, tiny_reader.end] = -torch.inf
                    tokens.append(int(logits.argmax()))
            assert found[index] == tokens
    assert sum(map(len, found)) > 12


@pytest.mark.parametrize("name", CHANGING)
def test_what_is_attached_changes_what_is_written(name, tiny_reader, texts, asked, made) -> None:
    compressor = made(tiny_reader, CHANGING[name])
    latents = compressor.encode(texts)
    prefix = compressor.prefix(latents)
    bare = write(tiny_reader, prefix, asked[0]).tokens
    with compressor.attached(latents):
        assert write(tiny_reader, prefix, asked[0]).tokens != bare
    assert write(tiny_reader, prefix, asked[0]).tokens == bare


@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_depend_on_its_batch(name, tiny_reader, texts, asked, made) -> None:
    compressor = made(tiny_reader, ALL[name])
    latents = compressor.encode(texts)
    whole = scored(compressor, tiny_reader, latents, asked)
    for index in range(len(texts)):
        alone = scored(
            compressor,
            tiny_reader,
            one_row(latents, index),
            [part[index : index + 1] for part in asked],
        )
        # float32 sums in another order, over logits of size 10.
        torch.testing.assert_close(
            whole.logits[whole.row == index], alone.logits, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("name", CHANGING)
def test_the_reader_is_as_before_after_an_error(name, tiny_reader, texts, made) -> None:
    compressor = made(tiny_reader, CHANGING[name])
    latents = compressor.encode(texts[:1])
    before = plain_logits(tiny_reader)
    with pytest.raises(RuntimeError, match="stop"), compressor.attached(latents):
        assert not torch.equal(plain_logits(tiny_reader), before)
        raise RuntimeError("stop")
    assert torch.equal(plain_logits(tiny_reader), before)
    with compressor.attached(latents):
        assert not torch.equal(plain_logits(tiny_reader), before)
    assert torch.equal(plain_logits(tiny_reader), before)


@pytest.mark.parametrize("inside", CHANGING)
@pytest.mark.parametrize("outside", ["lora", "inner"])
def test_ways_do_not_nest(outside, inside, tiny_reader, texts, made) -> None:
    first, second = made(tiny_reader, CHANGING[outside]), made(tiny_reader, CHANGING[inside])
    latents = first.encode(texts)
    before = plain_logits(tiny_reader)
    with (
        first.attached(latents),
        pytest.raises(ValueError, match="expected a bare reader"),
        second.attached(latents),
    ):
        pass
    assert torch.equal(plain_logits(tiny_reader), before)


@pytest.mark.parametrize("name", ALL)
def test_a_gradient_reaches_every_parameter(name, tiny_reader, texts, asked, made) -> None:
    # A LoRA's A has no gradient while B is zero; all others must train from their very start.
    compressor = made(tiny_reader, ALL[name], stirred=name == "lora")
    latents = compressor.encode(texts)
    scored(compressor, tiny_reader, latents, asked).nll.mean().backward()
    port = compressor.port
    trained = [*port.way.named_parameters(), *port.parts.named_parameters()]
    assert [key for key, each in trained if each.grad is None or not each.grad.any()] == []
    assert all(each.grad is None for each in tiny_reader.model.parameters())


def test_adapters_are_built_only_for_ways_that_read_embeddings(tiny_reader, made) -> None:
    for name, reads in [("inner", True), ("inner, no prefix", False), ("deep_prefix", False)]:
        port = made(tiny_reader, ALL[name]).port
        assert port.way.reads_embeddings is reads
        assert bool(port.parts) is reads


@pytest.mark.parametrize(
    "way", [[DeepPrefixWayConfig(), EmbeddingsWayConfig()], (DeepPrefixWayConfig(),), None, "lora"]
)
def test_anything_but_one_way_is_refused(way, tiny_reader, made) -> None:
    with pytest.raises(ConfigError, match="way: expected the config of one of .*embeddings"):
        made(tiny_reader, way)


# Deep prefix


@pytest.mark.parametrize("first", [True, False])
def test_a_deep_prefix_has_the_readers_shapes_and_no_embeddings(
    first, tiny_reader, texts, made
) -> None:
    compressor = made(tiny_reader, DeepPrefixWayConfig(first=first))
    latents = compressor.encode(texts)
    prefix = compressor.prefix(latents)
    positions = latents.mask.shape[1] + first
    assert len(prefix.keys_values) == tiny_reader.layers
    for pair in prefix.keys_values:
        for tensor in pair:
            assert tensor.shape == (4, tiny_reader.kv_heads, positions, tiny_reader.head_dim)
    assert prefix.cache_mask is not None
    assert prefix.cache_mask.sum(1).tolist() == (latents.counts + first).tolist()
    assert not prefix.mask.any()


def test_keys_reach_the_cache_as_they_are_made(tiny_reader, texts, made) -> None:
    compressor = made(tiny_reader, DeepPrefixWayConfig())
    prefix = compressor.prefix(compressor.encode(texts))
    cache = cache_of(tiny_reader, prefix)
    for layer, (keys, values) in zip(cache.layers, prefix.keys_values, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


def test_a_deep_prefix_starts_as_large_as_the_readers_keys_and_values(
    tiny_reader, texts, made
) -> None:
    compressor = made(tiny_reader, DeepPrefixWayConfig(), stirred=False)
    latents = compressor.encode(texts)
    prefix = compressor.prefix(latents)
    reading = short_reading(tiny_reader)
    for layer, pair in enumerate(prefix.keys_values):
        for made_states, own in zip(pair, (reading.keys, reading.values), strict=True):
            assert torch.equal(made_states[0, :, 0], own[layer][0])
            slots = made_states[:, :, 1:].transpose(1, 2)[latents.mask]
            ratio = slots.square().mean().sqrt() / own[layer][1:].square().mean().sqrt()
            assert 0.7 < ratio < 1.4


def with_layers(reader: Reader, number: int) -> Reader:
    model = copy.deepcopy(reader.model)
    model.model.layers = model.model.layers[:number]
    model.config.num_hidden_layers = number
    return Reader(model, reader.tokenizer, "shorter")


def test_a_reader_of_another_number_of_layers_is_refused(tiny_reader, texts, made) -> None:
    compressor = made(tiny_reader, DeepPrefixWayConfig())
    latents = compressor.encode(texts)
    with pytest.raises(ValueError, match="deep_prefix: expected 3 layers, got 2"):
        compressor.port.prefix(with_layers(tiny_reader, 2), latents)


def test_keys_and_values_sit_on_their_layers_device(tiny_reader, texts, made) -> None:
    compressor = made(tiny_reader, DeepPrefixWayConfig())
    latents = compressor.encode(texts)
    divided = with_layers(tiny_reader, 3)
    divided.model.model.layers[1].to("meta")
    prefix = compressor.port.prefix(divided, latents)
    devices = [(keys.device.type, values.device.type) for keys, values in prefix.keys_values]
    assert devices == [("cpu", "cpu"), ("meta", "meta"), ("cpu", "cpu")]


# LoRA


def test_a_lora_with_b_zero_is_the_embeddings_way(tiny_reader, texts, asked, made) -> None:
    compressor = made(tiny_reader, LoRAWayConfig(), stirred=False)
    latents = compressor.encode(texts)
    found = scored(compressor, tiny_reader, latents, asked)
    plain = made(tiny_reader, EmbeddingsWayConfig())
    expected = scored(plain, tiny_reader, plain.encode(texts), asked)
    assert torch.equal(found.logits, expected.logits)


def test_a_lora_stands_on_the_first_layers_and_the_named_modules_alone(tiny_reader, made) -> None:
    way = made(tiny_reader, LoRAWayConfig(layers=2, target_modules=("q_proj", "v_proj"))).port.way
    assert sorted(way.state_dict()) == sorted(
        f"lora.{factor}.model/layers/{layer}/self_attn/{name}"
        for factor in ("lora_A", "lora_B")
        for layer in (0, 1)
        for name in ("q_proj", "v_proj")
    )


def test_the_encoders_lora_and_the_readers_take_turns(tiny_reader, texts, asked) -> None:
    config = CompressorConfig(encoder=PretrainedEncoderConfig(r=4), way=LoRAWayConfig(r=4))
    compressor = Compressor(config, tiny_reader)
    latents = compressor.encode(texts)
    first = scored(compressor, tiny_reader, latents, asked)
    assert torch.equal(compressor.encode(texts).values, latents.values)
    assert torch.equal(scored(compressor, tiny_reader, latents, asked).logits, first.logits)
    with compressor.attached(latents), pytest.raises(ValueError, match="already runs with"):
        compressor.encode(texts)


@pytest.mark.parametrize("layers", [-1, 4])
def test_more_lora_layers_than_the_reader_has_are_refused(layers, tiny_reader, made) -> None:
    with pytest.raises(ConfigError, match="way.layers: expected 0 to 3"):
        made(tiny_reader, LoRAWayConfig(layers=layers))


# Inner adapters


@pytest.mark.parametrize("name", ["inner", "inner, no prefix"])
def test_gates_at_zero_give_the_plain_reader(name, tiny_reader, texts, asked, made) -> None:
    compressor = made(tiny_reader, CHANGING[name])
    latents = compressor.encode(texts)
    plain = scored(compressor, tiny_reader, latents, asked, attached=False)
    assert not torch.equal(scored(compressor, tiny_reader, latents, asked).logits, plain.logits)
    with torch.no_grad():
        for adapter in compressor.port.way.adapters.values():
            adapter.gate.zero_()
    assert torch.equal(scored(compressor, tiny_reader, latents, asked).logits, plain.logits)


def test_recorded_hidden_states_hold_what_an_inner_adapter_adds(
    tiny_reader, texts, asked, made
) -> None:
    compressor = made(tiny_reader, InnerWayConfig(layers=(1,), width=32))
    latents = compressor.encode(texts)
    plain = scored(compressor, tiny_reader, latents, asked, attached=False, all_layers=True)
    found = scored(compressor, tiny_reader, latents, asked, all_layers=True)
    same = [torch.equal(a, b) for a, b in zip(plain.layers, found.layers, strict=True)]
    assert same == [True, False, False]


def test_a_gate_starts_as_the_share_that_is_added(tiny_reader, texts, asked, made) -> None:
    compressor = made(tiny_reader, InnerWayConfig(layers=(1,), gate=0.1), stirred=False)
    latents = compressor.encode(texts)
    plain = scored(compressor, tiny_reader, latents, asked, attached=False, all_layers=True)
    found = scored(compressor, tiny_reader, latents, asked, all_layers=True)
    share = (found.layers[1] - plain.layers[1]).norm(dim=1) / plain.layers[1].norm(dim=1)
    assert 0.03 < share.mean() < 0.2


def test_inner_adapters_are_spread_over_the_depth_by_default(tiny_reader, made) -> None:
    assert list(made(tiny_reader, InnerWayConfig()).port.way.adapters) == ["0", "1"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (InnerWayConfig(layers=(3,)), "way.layers: expected different ones from 0 to 2"),
        (InnerWayConfig(layers=(1, 1)), "way.layers: expected different ones"),
        (InnerWayConfig(heads=3), "way.heads: expected a divisor of 256, got 3"),
        (InnerWayConfig(gate=0.0), "way.gate: expected any number but 0"),
        (DeepPrefixWayConfig(hidden=0), "way.hidden: expected at least 1"),
        (CoprocessorWayConfig(start=0.0), "start above 0"),
    ],
)
def test_settings_that_cannot_train_are_refused(bad, message, tiny_reader, made) -> None:
    with pytest.raises(ConfigError, match=message):
        made(tiny_reader, bad)
