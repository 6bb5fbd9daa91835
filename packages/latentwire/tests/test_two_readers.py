"""One latent, two readers: what each sees, and what a swap changes."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from llgbm.latentwire.encoders.embeddings import EmbeddingsEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.rows.base import Setting
from llgbm.latentwire.examples import Example
from llgbm.latentwire.latents import Latents, slot_mask
from llgbm.latentwire.losses.answer import AnswerTermConfig
from llgbm.latentwire.losses.reconstruction import ReconstructionTermConfig
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.poolers.mean import MeanPoolerConfig
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.two_readers import (
    READERS,
    SharedCompressor,
    SharedCompressorConfig,
    SlotLayout,
)
from llgbm.latentwire.two_readers.bridge import common_tokens, fit_bridge
from llgbm.latentwire.two_readers.compressor import SecondPortConfig
from llgbm.latentwire.two_readers.objective import SharedObjective
from llgbm.latentwire.two_readers.rows import SentBudgetRowConfig, SwappedRowConfig
from llgbm.latentwire.two_readers.view import View
from llgbm.latentwire.ways.deep_prefix import DeepPrefixWayConfig

CONFIG = SharedCompressorConfig(slots=SlotsConfig(ratio=2), layout=SlotLayout(0.5))
LOSSES = (AnswerTermConfig(), ReconstructionTermConfig(weight=0.1))


@pytest.fixture
def shared(tiny_reader, other_reader) -> SharedCompressor:
    return SharedCompressor(CONFIG, tiny_reader, other_reader)


def texts_of(examples) -> list[str]:
    return [example.context for example in examples]


def numbered(counts) -> Latents:
    """Latents whose values say where they stand: 100 * text + slot + 1."""
    counts = torch.tensor(counts)
    mask = slot_mask(counts)
    values = torch.arange(mask.shape[1])[None, :] + 100 * torch.arange(len(counts))[:, None] + 1.0
    return Latents((values * mask)[..., None], mask)


def rows_of(latents) -> list[list[float]]:
    return [latents.row(place)[:, 0].tolist() for place in range(len(latents.values))]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.3, 0.5, 0.99])
def test_parts_add_up_and_something_is_always_shared(share) -> None:
    counts = torch.arange(1, 200)
    common, own = SlotLayout(share).parts(counts)
    assert torch.equal(common + 2 * own, counts)
    assert (common >= 1).all()
    assert (own >= 0).all()
    assert (own <= counts * share / 2 + 1e-6).all()
    assert (own > counts * share / 2 - 1).all()
    assert torch.equal(SlotLayout(share).seen(counts), common + own)


def test_a_share_that_leaves_nothing_to_both_is_refused() -> None:
    for share in (1.0, -0.1):
        with pytest.raises(ConfigError, match="layout.private: expected from 0 to below 1"):
            SlotLayout(share)


def test_a_view_holds_the_shared_slots_and_the_readers_own() -> None:
    latents = numbered([8, 3, 10])
    layout = SlotLayout(0.5)
    assert layout.parts(latents.counts)[1].tolist() == [2, 0, 2]
    assert rows_of(layout.view(latents, "first")) == [
        [1, 2, 3, 4, 5, 6],
        [101, 102, 103],
        [201, 202, 203, 204, 205, 206, 207, 208],
    ]
    assert rows_of(layout.view(latents, "second"))[0] == [1, 2, 3, 4, 7, 8]
    assert rows_of(layout.view(latents, "second"))[2] == [201, 202, 203, 204, 205, 206, 209, 210]
    assert rows_of(layout.shared(latents)) == [
        [1, 2, 3, 4],
        [101, 102, 103],
        [201, 202, 203, 204, 205, 206],
    ]


def test_a_swap_changes_its_part_and_nothing_else() -> None:
    latents, layout = numbered([8, 3]), SlotLayout(0.5)
    other = latents.replaced(-latents.values)
    common = layout.swapped(latents, other, "shared")
    assert rows_of(common) == [[-1, -2, -3, -4, 5, 6, 7, 8], [-101, -102, -103]]
    private = layout.swapped(latents, other, "private")
    assert rows_of(private) == [[1, 2, 3, 4, -5, -6, -7, -8], [101, 102, 103]]
    assert not private.values[~private.mask].any()
    with pytest.raises(ConfigError, match="as many slots"):
        layout.swapped(latents, numbered([8, 4]), "shared")


def test_every_part_of_the_slots_is_made_of_the_whole_text(
    tiny_reader, other_reader, examples
) -> None:
    config = replace(CONFIG, encoder=EmbeddingsEncoderConfig(), pooler=MeanPoolerConfig())
    shared = SharedCompressor(replace(config, layout=SlotLayout(0.9)), tiny_reader, other_reader)
    text = examples[0].context
    latents = shared.encode([text])
    common, own = shared.config.layout.parts(latents.counts)
    assert (int(common), int(own)) == (1, 2)
    states = shared.encoder([text])
    whole = shared.pooler["shared"](states, torch.tensor([1])).values[0]
    halves = shared.pooler["first"](states, torch.tensor([2])).values[0]
    torch.testing.assert_close(latents.values[0, :1], whole)
    torch.testing.assert_close(latents.values[0, 1:3], halves)


def test_a_text_without_private_slots_is_the_same_beside_one_with_them(shared, examples) -> None:
    short = Example("Snow.", " ?", "x").context
    with torch.no_grad():
        together = shared.encode([short, examples[0].context])
        alone = shared.encode([short])
    assert int(shared.config.layout.parts(alone.counts)[1]) == 0
    torch.testing.assert_close(together.row(0), alone.row(0), atol=1e-5, rtol=1e-5)


def test_rule_12_both_readers_losses_move_every_part(shared, examples) -> None:
    objective = SharedObjective(LOSSES, shared)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in shared.trained().values():
            if not parameter.any():
                parameter.normal_(std=0.02)
    latents = shared.encode(texts_of(examples))
    steps = {
        name: Step(
            View(shared, name), shared.readers[name], examples, View(shared, name).seen(latents),
            0, 1, 0, shared.config.layout.shared(latents),
        )
        for name in READERS
    }  # fmt: skip
    values, log = objective.contributions(steps)
    parameters = {**shared.trained(), **dict(objective.named_parameters())}
    moved = {}
    for name in READERS:
        part = torch.stack([each for key, each in values.items() if key.startswith(name)]).sum()
        found = torch.autograd.grad(
            part, list(parameters.values()), retain_graph=True, allow_unused=True
        )
        moved[name] = {
            key
            for key, each in zip(parameters, found, strict=True)
            if each is not None and each.any()
        }
    silent = {key for key in parameters if ".marks." not in key} - moved["first"] - moved["second"]
    assert not silent
    for name, rival in (("first", "second"), ("second", "first")):
        assert {key for key in moved[name] if key.split(".")[1] == rival} == set()
        assert any(key.startswith(f"port.{name}.") for key in moved[name])
        assert any(key.startswith(f"pooler.{name}.") for key in moved[name])
    both = moved["first"] & moved["second"]
    assert {key.split(".")[0] for key in both} == {"encoder", "pooler"}
    total = sum(float(value.detach()) for value in values.values())
    mean = sum(log[f"{name}/weighted/{term}"] for name in READERS for term in objective_terms(log))
    assert total == pytest.approx(mean / 2, rel=1e-5)


def objective_terms(log) -> list[str]:
    return [key.split("/")[-1] for key in log if key.startswith("first/weighted/")]


def test_without_private_slots_both_readers_see_the_same(
    tiny_reader, other_reader, examples
) -> None:
    config = replace(CONFIG, layout=SlotLayout(0.0))
    shared = SharedCompressor(config, tiny_reader, other_reader)
    assert list(shared.pooler) == ["shared"]
    with torch.no_grad():
        views = [View(shared, name).encode(texts_of(examples)) for name in READERS]
    assert torch.equal(views[0].values, views[1].values)
    assert torch.equal(views[0].counts, shared.counts(texts_of(examples)))


def test_steps_without_compression_have_a_shared_slot_a_token(shared, examples) -> None:
    texts = texts_of(examples)
    tokens = [len(shared.readers["first"].tokens(text)) for text in texts]
    for name in READERS:
        view = View(shared, name)
        assert view.encode(texts, ratio=1.0).counts.tolist() == tokens
        assert view.counts(texts, ratio=1.0).tolist() == tokens
        assert view.counts(texts).tolist() == view.encode(texts).counts.tolist()


def swapped_view(shared, name, examples, part, indices=(0, 1, 2, 3)) -> Latents:
    view = View(shared, name)
    setting = Setting(shared.readers[name], tuple(examples), view)
    with torch.no_grad():
        return SwappedRowConfig(part).build(setting).latents(list(indices))


def test_swapped_rows_take_the_named_slots_from_another_document(shared, examples) -> None:
    with torch.no_grad():
        own = shared.encode(texts_of(examples))
    common, private = shared.config.layout.parts(own.counts)
    for name in READERS:
        seen = View(shared, name).seen(own)
        for part in ("shared", "private", "both"):
            got = swapped_view(shared, name, examples, part)
            assert torch.equal(got.mask, seen.mask)
            for row in range(len(examples)):
                cut = int(common[row])
                changed = (got.row(row) != seen.row(row)).any(-1)
                assert bool(changed[:cut].all()) == (part != "private")
                assert bool(changed[:cut].any()) == (part != "private")
                if int(private[row]):
                    assert bool(changed[cut:].all()) == (part != "shared")
                    assert bool(changed[cut:].any()) == (part != "shared")
    alone = swapped_view(shared, "first", examples, "shared", (2,))
    together = swapped_view(shared, "first", examples, "shared")
    torch.testing.assert_close(alone.row(0), together.row(2), atol=1e-5, rtol=1e-5)


def test_a_compressor_for_one_reader_has_no_swap(tiny_reader, shared, examples) -> None:
    from llgbm.latentwire.compressor import Compressor, CompressorConfig

    single = Compressor(CompressorConfig(), tiny_reader)
    setting = Setting(tiny_reader, tuple(examples), single)
    with pytest.raises(ConfigError, match="expected a compressor for two readers"):
        SwappedRowConfig().build(setting)
    with pytest.raises(ConfigError, match="expected a compressor, got none"):
        SentBudgetRowConfig().build(Setting(tiny_reader, tuple(examples)))
    with pytest.raises(ConfigError, match=r"swapped.part"):
        SwappedRowConfig("own")  # type: ignore[arg-type]


def test_the_token_budget_is_what_is_sent_in_tokens_of_the_reader(shared, examples) -> None:
    view = View(shared, "second")
    reader = shared.readers["second"]
    row = SentBudgetRowConfig().build(Setting(reader, tuple(examples), view))
    sent = shared.counts(texts_of(examples)).tolist()
    for index, example in enumerate(examples):
        ids, kept = row.kept(index)
        assert kept == min(sent[index], len(reader.tokens(example.context)))
        assert ids[kept:] == reader.tokens(example.ending)
    assert sent != view.counts(texts_of(examples)).tolist()


def test_a_bridge_finds_the_map_between_two_tables(shared, tiny_reader, other_reader) -> None:
    mine, theirs = common_tokens(tiny_reader, other_reader)
    assert len(mine) > 150
    for own, other in zip(mine.tolist(), theirs.tolist(), strict=True):
        text = tiny_reader.tokenizer.decode([own])
        assert other_reader.tokenizer.decode([other]) == text
    second = Reader(deepcopy(other_reader.model), other_reader.tokenizer, "linear")
    torch.manual_seed(0)
    table = second.model.get_input_embeddings().weight
    wanted = torch.randn(48, 64) / 8
    with torch.no_grad():
        table[theirs] = tiny_reader.embed(mine) @ wanted.T + 0.1
    adapter = shared.port["second"].parts["adapter"]
    random = adapter.linear.weight.clone()
    assert fit_bridge(adapter, tiny_reader, second) == len(mine)
    latents = Latents(tiny_reader.embed(mine)[None], torch.ones(1, len(mine), dtype=torch.bool))
    found, target = adapter(latents)[0], second.embed(theirs)
    error = (found - target).square().mean() / target.square().mean()
    assert error < 0.01
    sizes = [float(each.detach().square().mean()) for each in (found, target)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4)
    assert not torch.equal(adapter.linear.weight, random)


def test_a_bridge_wants_a_linear_adapter_and_the_first_readers_width(
    tiny_reader, other_reader
) -> None:
    config = replace(CONFIG, second=SecondPortConfig(way=DeepPrefixWayConfig()))
    with pytest.raises(ConfigError, match=r"second.bridge: .* got none and 64"):
        SharedCompressor(config, tiny_reader, other_reader)
    off = replace(config, second=replace(config.second, bridge=False))
    SharedCompressor(off, tiny_reader, other_reader)


def test_a_view_shares_every_part(shared) -> None:
    view = View(shared, "second")
    assert isinstance(view, View)
    mine = {id(each) for each in shared.parameters()}
    assert {id(each) for each in view.parameters()} == mine
    view.eval()
    assert not any(module.training for module in shared.modules())
