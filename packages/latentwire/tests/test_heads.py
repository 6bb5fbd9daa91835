"""Positions that every head keeps for itself."""

import pytest
import torch

from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.cache import CacheEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.poolers.heads import HeadsPooler, HeadsPoolerConfig
from llgbm.latentwire.poolers.scored import chosen
from llgbm.latentwire.scoring import score
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.ways.cache import CacheWayConfig


def made(reader, ratio: float = 4.0, tuning: str = "frozen") -> Compressor:
    config = CompressorConfig(
        SlotsConfig(ratio),
        CacheEncoderConfig(tuning=tuning, received=True),
        HeadsPoolerConfig(),
        way=CacheWayConfig(),
    )
    return Compressor(config, reader)


def states_of(pooler: HeadsPooler, length: int = 6, rows: int = 2) -> States:
    generator = torch.Generator().manual_seed(0)
    layers, _, heads, _ = pooler.shape
    return States(
        torch.randn(rows, length, pooler.width, generator=generator),
        torch.ones(rows, length, dtype=torch.bool),
        received=torch.rand(rows, length, layers, heads, generator=generator),
    )


def test_every_head_chooses_for_itself() -> None:
    scores = torch.tensor([[[0.1, 0.9], [0.7, 0.2], [0.5, 0.8]]])
    places = chosen(scores, torch.tensor([3]), torch.tensor([2]))
    assert places[0, :, 0].tolist() == [1, 2]
    assert places[0, :, 1].tolist() == [0, 2]


def test_slots_hold_what_each_heads_most_looked_at_positions_held(tiny_reader) -> None:
    pooler = HeadsPooler(tiny_reader)
    states = states_of(pooler)
    latents = pooler(states, torch.tensor([2, 3]))
    values = states.values.unflatten(-1, pooler.shape)
    slots = latents.values.unflatten(-1, pooler.shape)
    for row, count in enumerate((2, 3)):
        for layer in range(pooler.shape[0]):
            for head in range(pooler.shape[2]):
                best = states.received[row, :, layer, head].topk(count).indices.sort().values
                expected = values[row, best, layer, :, head]
                torch.testing.assert_close(slots[row, :count, layer, :, head], expected)
    assert not latents.values[0, 2:].any()


def test_as_many_slots_as_tokens_are_the_text_itself(tiny_reader) -> None:
    compressor = made(tiny_reader, ratio=1.0)
    texts = ["Anna lives in a house by the sea.", "Snow is white."]
    latents = compressor.encode(texts)
    states = compressor.encoder(texts)
    torch.testing.assert_close(latents.values, states.values * states.mask[..., None])


def test_the_score_learns_what_kept_states_do_to_the_loss(tiny_reader) -> None:
    pooler = HeadsPooler(tiny_reader)
    states = states_of(pooler)
    before = pooler(states, torch.tensor([2, 2])).values
    before.square().sum().backward()
    assert pooler.score.grad.any()
    # What it learns changes what is kept, head by head.
    with torch.no_grad():
        pooler.score[0, 0, 0] += 50.0
    after = pooler(states, torch.tensor([2, 2])).values.detach()
    changed = (after != before).unflatten(-1, pooler.shape).any(0).any(0).any(-1)
    assert changed[0, :, 0].any()
    assert not changed[1:].any()
    assert not changed[0, :, 1:].any()


def test_a_text_alone_has_the_latents_that_it_has_in_company(tiny_reader) -> None:
    compressor = made(tiny_reader)
    texts = ["Anna lives in a house by the sea.", "Ben has two dogs and a cat, and one bird."]
    together = compressor.encode(texts)
    for place, text in enumerate(texts):
        alone = compressor.encode([text])
        torch.testing.assert_close(together.row(place), alone.row(0), atol=1e-4, rtol=1e-4)


def test_other_encoders_do_not_know_what_heads_look_at(tiny_reader) -> None:
    config = CompressorConfig(encoder=CacheEncoderConfig(), pooler=HeadsPoolerConfig())
    with pytest.raises(ConfigError, match="pooler heads: expected the encoder `cache` with"):
        Compressor(config, tiny_reader)


def test_a_reader_reads_them(tiny_reader, examples) -> None:
    compressor = made(tiny_reader, ratio=2.0)
    latents = compressor.encode([each.context for each in examples])
    endings = [tiny_reader.tokens(each.ending) for each in examples]
    answers = [tiny_reader.answer_tokens(each.answer) for each in examples]
    scored = score(tiny_reader, compressor.prefix(latents), endings, answers)
    assert torch.isfinite(scored.nll).all()


def test_training_moves_its_score(tiny_reader, tmp_path) -> None:
    words = ["stages.0.steps=2", "stages.0.batch_size=2"]
    config = read_config("smoke/pooler_heads", words)
    training = CompressorTraining(config, tiny_reader, tmp_path / "run")
    training.fit()
    assert training.compressor.pooler.score.detach().any()
