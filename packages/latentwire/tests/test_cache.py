"""Latents that are keys and values: what is read through them, and where they stand."""

import pytest
import torch

from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.cache import CacheEncoderConfig
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.generation import write
from llgbm.latentwire.latents import States
from llgbm.latentwire.poolers.last import LastPooler, LastPoolerConfig
from llgbm.latentwire.poolers.select import SelectPoolerConfig
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.rotary import Rotary
from llgbm.latentwire.scoring import cache_of, decode, score
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.ways.cache import CacheWayConfig


def made(reader: Reader, ratio: float = 4.0, first: bool = True, tuning: str = "frozen"):
    config = CompressorConfig(
        SlotsConfig(ratio),
        encoder=CacheEncoderConfig(tuning=tuning),
        pooler=LastPoolerConfig(),
        way=CacheWayConfig(first=first),
    )
    return Compressor(config, reader)


def keys_at(reader: Reader, ids: list[int], shift: int) -> list[torch.Tensor]:
    cache = cache_of(reader)
    rows = torch.tensor([ids])
    decode(
        reader,
        reader.embed(rows),
        torch.ones_like(rows, dtype=torch.bool),
        cache=cache,
        shift=shift,
    )
    return [layer.keys for layer in cache.layers]


@pytest.mark.parametrize("kind", ["llama", "cohere", "qwen3", "gemma3_text", "stablelm"])
def test_keys_are_moved_to_where_the_reader_would_put_them(kind, model_of) -> None:
    reader = model_of(kind)
    rotary = Rotary(reader)
    ids = reader.tokens("Anna lives in a house by the sea.")
    places = torch.arange(len(ids))[None]
    pairs = zip(keys_at(reader, ids, 0), keys_at(reader, ids, 9), strict=True)
    for layer, (here, there) in enumerate(pairs):
        plain = rotary.unturned(here, layer, places)
        torch.testing.assert_close(
            rotary.turned(plain, layer, places + 9), there, atol=1e-5, rtol=1e-4
        )
        assert not torch.allclose(here, there, atol=1e-2)


def test_a_reader_without_rotary_positions_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=49152, bos_token_id=1, eos_token_id=2
    )
    model = GPT2LMHeadModel(config).requires_grad_(False)
    reader = Reader(model.eval(), load_reader(device="cpu").tokenizer, "gpt2")
    with pytest.raises(ConfigError, match="rotary"):
        Rotary(reader)


def test_one_token_a_slot_reads_as_text(tiny_reader, examples) -> None:
    compressor = made(tiny_reader, ratio=1, first=False)
    texts = [example.context for example in examples]
    endings = [tiny_reader.tokens(example.ending) for example in examples]
    answers = [tiny_reader.answer_tokens(example.answer) for example in examples]
    latents = compressor.encode(texts)
    text = replayed(tiny_reader, [tiny_reader.tokens(each) for each in texts])
    found = score(tiny_reader, compressor.prefix(latents), endings, answers)
    wanted = score(tiny_reader, text, endings, answers)
    torch.testing.assert_close(found.logits, wanted.logits, atol=2e-3, rtol=1e-3)
    assert (
        write(tiny_reader, compressor.prefix(latents), endings).texts
        == write(tiny_reader, text, endings).texts
    )


def test_slots_stand_side_by_side_whatever_they_stand_for(tiny_reader, examples) -> None:
    compressor = made(tiny_reader, ratio=2)
    latents = compressor.encode([examples[0].context])
    prefix = compressor.prefix(latents)
    slots = int(latents.counts[0])
    assert prefix.cache_mask.shape == (1, slots + 1)
    rotary = Rotary(tiny_reader)
    keys = prefix.keys_values[1][0]
    plain = rotary.unturned(keys, 1, torch.arange(slots + 1)[None])[:, :, 1:]
    wanted = latents.values.unflatten(-1, (3, 2, 2, 16))[:, :, 1, 0].transpose(1, 2)
    torch.testing.assert_close(plain, wanted, atol=1e-5, rtol=1e-4)
    first = compressor.port.way.first.states[1][0]
    torch.testing.assert_close(keys[0, :, 0], first)


def test_the_last_position_of_each_share_is_taken() -> None:
    values = torch.arange(14.0).reshape(2, 7, 1)
    mask = torch.arange(7)[None] < torch.tensor([[7], [2]])
    latents = LastPooler(1)(States(values, mask), torch.tensor([3, 3]))
    # Shares of 7 positions end at 2, 4 and 7; two positions for three slots: one stands twice.
    assert latents.values[0, :, 0].tolist() == [1.0, 3.0, 6.0]
    assert latents.values[1, :, 0].tolist() == [7.0, 7.0, 8.0]
    assert latents.mask.all()


def test_latents_of_another_width_are_refused(tiny_reader) -> None:
    config = CompressorConfig(encoder=PretrainedEncoderConfig(), way=CacheWayConfig())
    with pytest.raises(ConfigError, match="expected latents of width 192, .* got 64"):
        Compressor(config, tiny_reader)


def test_a_reader_of_one_layer_has_nothing_to_adapt(model_of) -> None:
    reader = model_of("llama")
    reader.model.config.num_hidden_layers = 1
    with pytest.raises(ConfigError, match="one layer"):
        CacheEncoderConfig().build(reader)


def test_a_text_longer_than_a_sliding_window_is_refused(model_of) -> None:
    reader = model_of("gemma3_text", sliding_window=32)
    encoder = CacheEncoderConfig(tuning="frozen").build(reader)
    with pytest.raises(PromptError, match="expected at most 31 tokens, which layer 0"):
        encoder([10 * "Anna lives in a house by the sea. "])


def test_the_packaged_config_is_made_of_these_parts() -> None:
    parts = read_config("cache").compressor
    assert (parts.encoder, parts.pooler, parts.way) == (
        CacheEncoderConfig(), SelectPoolerConfig(), CacheWayConfig(),
    )  # fmt: skip


def test_a_text_that_stands_twice_is_compressed_once(tiny_reader, examples) -> None:
    compressor = made(tiny_reader)
    seen = []
    compressor.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    first, second = examples[0].context, examples[1].context
    latents = compressor.encode([first, second, first])
    assert seen == [[first, second]]
    torch.testing.assert_close(latents.row(0), latents.row(2), atol=0, rtol=0)
    alone = compressor.encode([second])
    torch.testing.assert_close(latents.row(1), alone.row(0), atol=1e-4, rtol=1e-4)
