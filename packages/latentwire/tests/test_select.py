"""Positions that are kept: which, how that is learned, and what other parts see of it."""

import pytest
import torch

from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.cache import CacheEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.losses.selection import SelectionTermConfig, answer_places
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.poolers.select import SelectPooler, SelectPoolerConfig, chosen
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.freezing import frozen_but
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.ways.cache import CacheWayConfig


@pytest.fixture
def compressor(tiny_reader):
    config = CompressorConfig(
        SlotsConfig(4), CacheEncoderConfig(), SelectPoolerConfig(), way=CacheWayConfig()
    )
    return Compressor(config, tiny_reader)


def test_the_highest_scores_are_kept_in_the_texts_order() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.8], [3.0, 1.0, 9.0, 9.0]])
    places = chosen(scores, torch.tensor([4, 2]), torch.tensor([2, 3]))
    # The second text has two positions: the last stands for the third slot, padding never.
    assert places.tolist() == [[1, 3, 3], [0, 1, 1]]


def test_values_are_the_states_themselves_and_the_score_learns_from_any_loss() -> None:
    torch.manual_seed(0)
    pooler = SelectPooler(6)
    states = States(torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
    latents = pooler(states, torch.tensor([2, 3]))
    for row, count in enumerate((2, 3)):
        best = latents.scores[row].topk(count).indices.sort().values
        torch.testing.assert_close(latents.row(row), states.values[row, best])
    latents.values.square().sum().backward()
    assert pooler.score.weight.grad.any()


def test_sizes_of_states_are_measured_on_texts(compressor) -> None:
    pooler = compressor.pooler
    texts = ["Anna lives in a house by the sea.", "Ben has two dogs and a cat."]
    pooler.fit(compressor.encoder, texts)
    values = torch.cat([compressor.encoder([text]).values[0] for text in texts])
    torch.testing.assert_close(pooler.mean, values.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooler.size, values.std(0, correction=0), atol=1e-3, rtol=1e-3)


def test_places_of_an_answer_are_those_of_its_characters(tiny_reader) -> None:
    context = "Rome was not built in a day; Rome, they say, took years."
    places = answer_places(tiny_reader, context, ["rome", "a day"])
    tokens = tiny_reader.tokens(context)
    assert [tiny_reader.text_of([tokens[place]]).strip() for place in places] == [
        "Rome", "a", "day", "Rome",
    ]  # fmt: skip
    assert answer_places(tiny_reader, context, ["Paris"]) == []


def test_the_loss_ranks_answers_above_the_rest(compressor, tiny_reader, examples) -> None:
    term = SelectionTermConfig().build(compressor, tiny_reader)
    optimiser = torch.optim.Adam(compressor.pooler.parameters(), lr=1e-2)
    losses = []
    for number in range(30):
        latents = compressor.encode([example.context for example in examples])
        loss = term(Step(compressor, tiny_reader, examples, latents, number, 30))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert term.logged["kept"] > 0.5
    first = answer_places(tiny_reader, examples[3].context, ["Rome"])
    assert int(latents.scores[3, : len(tiny_reader.tokens(examples[3].context))].argmax()) in first


def test_padding_has_no_part_in_the_loss(compressor, tiny_reader, examples) -> None:
    term = SelectionTermConfig().build(compressor, tiny_reader)
    texts = [example.context for example in examples]
    together = term(Step(compressor, tiny_reader, examples, compressor.encode(texts), 0, 1))
    alone = [
        term(Step(compressor, tiny_reader, [each], compressor.encode([each.context]), 0, 1))
        for each in examples
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-4, rtol=1e-4)


def test_scores_follow_a_text_that_stands_twice(compressor, examples) -> None:
    texts = [examples[0].context, examples[1].context, examples[0].context]
    latents = compressor.encode(texts)
    torch.testing.assert_close(latents.scores[0], latents.scores[2])
    assert len(latents.scores) == 3


def test_the_loss_needs_the_pooler(tiny_reader) -> None:
    with pytest.raises(ConfigError, match="selection: expected the pooler `select`"):
        SelectionTermConfig().build(Compressor(CompressorConfig(), tiny_reader), tiny_reader)


def test_parts_that_a_stage_leaves_alone_keep_no_graph(compressor) -> None:
    trained = {"pooler.score.weight": compressor.pooler.score.weight}
    before = {name for name, each in compressor.named_parameters() if each.requires_grad}
    with frozen_but(compressor, trained):
        states = compressor.encoder(["Snow is white."])
        assert not states.values.requires_grad
        assert compressor.pooler(states, torch.tensor([1])).scores.requires_grad
    after = {name for name, each in compressor.named_parameters() if each.requires_grad}
    assert before == after


def test_a_stage_of_selection_moves_the_pooler_alone(tmp_path, tiny_reader) -> None:
    words = ["reader=tiny", "stages=[{name='select', steps=3, batch_size=2, train=['pooler'], "
             "data={name='reading', longest=40}, losses=[{name='selection'}]}]"]  # fmt: skip
    config = read_config("cache", [*words, "validation_examples=2", "diagnose_every=2"])
    training = CompressorTraining(config, tiny_reader, tmp_path / "run")
    start = {name: each.clone() for name, each in training.compressor.named_parameters()}
    training.fit()
    moved = {
        name
        for name, each in training.compressor.named_parameters()
        if not torch.equal(each, start[name])
    }
    assert moved == {"pooler.score.weight"}
