"""Terms on what slots hold: embeddings, and heads that read them."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, stack
from llgbm.latentwire.losses.alignment import AlignmentTermConfig
from llgbm.latentwire.losses.contrastive import ContrastiveTermConfig
from llgbm.latentwire.losses.gist import GistTermConfig
from llgbm.latentwire.losses.length import LengthTermConfig
from llgbm.latentwire.losses.reconstruction import ReconstructionTermConfig, stretching
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.losses.warmup_alignment import WarmupAlignmentTermConfig
from llgbm.latentwire.ways.base import WAYS

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def test_alignment_is_the_cosine_of_slots_and_their_segments(step, built):
    cosines = []
    for row, ids in enumerate(step.contexts):
        table = step.reader.embed(torch.tensor(ids))
        count = int(step.latents.counts[row])
        for slot in range(count):
            part = table[slot * len(ids) // count : (slot + 1) * len(ids) // count].mean(0)
            cosines.append(cosine_similarity(step.embeds[row, slot], part, dim=0))
    term = built(AlignmentTermConfig(), step)
    torch.testing.assert_close(term(step), 1 - torch.stack(cosines).mean(), **CLOSE)
    assert term.logged["cosine"] == pytest.approx(
        float(torch.stack(cosines).detach().mean()), rel=1e-5
    )


def test_warmup_alignment_is_the_relative_square_error_of_the_first_slots(step, built):
    squares = []
    for row, ids in enumerate(step.contexts):
        table = step.reader.embed(torch.tensor(ids))
        for slot in range(min(2, int(step.latents.counts[row]))):
            squares.append((step.embeds[row, slot] - table[slot]).square())
    expected = torch.stack(squares).mean() / step.reader.embedding.square().mean()
    term = built(WarmupAlignmentTermConfig(slots=2), step)
    torch.testing.assert_close(term(step), expected, **CLOSE)
    assert WarmupAlignmentTermConfig().schedule.factor(1.0) == 0


def test_terms_about_slots_see_them_before_dropout(step, compressor, examples, built, tiny_reader):
    kept = torch.zeros_like(step.latents.mask)
    kept[:, 0] = True
    dropped = Latents(step.latents.values * kept[..., None], kept)
    other = Step(compressor, tiny_reader, examples, dropped, 0, 10, whole=step.latents)
    for config in (AlignmentTermConfig(), WarmupAlignmentTermConfig(), ContrastiveTermConfig(),
                   ReconstructionTermConfig(), GistTermConfig(), LengthTermConfig()):  # fmt: skip
        torch.testing.assert_close(built(config, other)(other), built(config, step)(step))
    assert not torch.equal(other.scored.logits, step.scored.logits)


@pytest.mark.parametrize(
    "config", [AlignmentTermConfig, WarmupAlignmentTermConfig, ContrastiveTermConfig]
)
def test_terms_on_embeddings_refuse_a_way_without_them(config, tiny_reader, compressor_of):
    with pytest.raises(ConfigError, match="deep_prefix"):
        config().build(compressor_of(way=WAYS["deep_prefix"]()), tiny_reader)


def test_contrastive_is_cross_entropy_over_the_batch_both_ways(step, built):
    ours = torch.stack([
        step.embeds[row, : int(step.latents.counts[row])].mean(0) for row in range(4)
    ])  # fmt: skip
    texts = torch.stack([step.reader.embed(torch.tensor(ids)).mean(0) for ids in step.contexts])
    near = cosine_similarity(ours[:, None], texts[None], dim=-1) / 0.2
    rows = [-near[i].log_softmax(0)[i] for i in range(4)]
    columns = [-near[:, i].log_softmax(0)[i] for i in range(4)]
    expected = sum(rows + columns) / 8
    term = built(ContrastiveTermConfig(temperature=0.2), step)
    torch.testing.assert_close(term(step), expected, **CLOSE)
    assert term.logged["negatives"] == 3


def test_a_context_asked_twice_is_no_negative_of_itself(compressor, examples, built, step_of):
    step = step_of(compressor, [*examples[:2], examples[0]])
    ours = torch.stack([step.embeds[row, step.latents.mask[row]].mean(0) for row in range(3)])
    texts = torch.stack([step.reader.embed(torch.tensor(ids)).mean(0) for ids in step.contexts])
    near = cosine_similarity(ours[:, None], texts[None], dim=-1) / 0.1
    # What is compared with what: rows 0 and 2 are the same text.
    seen = {0: [0, 1], 1: [1, 0, 2], 2: [2, 1]}
    values = [-near[i, seen[i]].log_softmax(0)[0] for i in seen]
    values += [-near[seen[i], i].log_softmax(0)[0] for i in seen]
    term = built(ContrastiveTermConfig(), step)
    torch.testing.assert_close(term(step), sum(values) / 6, **CLOSE)
    assert term.logged["negatives"] == pytest.approx(4 / 3)


def test_contrastive_refuses_a_batch_of_one(compressor, examples, built, step_of):
    step = step_of(compressor, examples[:1])
    with pytest.raises(ConfigError, match="at least 2 texts, got 1"):
        built(ContrastiveTermConfig(), step)(step)


def test_stretching_is_linear_interpolation():
    torch.manual_seed(0)
    lengths, counts = torch.tensor([9, 4, 1, 6]), torch.tensor([3, 4, 2, 1])
    values = torch.randn(4, 5, 2)
    found = stretching(lengths, counts, 5) @ values
    for row in range(4):
        part = values[row, : counts[row]].T[None]
        expected = interpolate(part, size=int(lengths[row]), mode="linear", align_corners=False)
        torch.testing.assert_close(found[row, : lengths[row]], expected[0].T, **CLOSE)


@pytest.mark.parametrize("places", [1, 3])
def test_reconstruction_is_cosine_and_a_tenth_of_the_square_error(step, places, built):
    term = built(ReconstructionTermConfig(places=places), step)
    cosines, squares = [], []
    for row, ids in enumerate(step.contexts):
        wanted = step.reader.embed(torch.tensor(ids))
        made = term.head(step.latents.row(row)).reshape(-1, 64)
        made = interpolate(made.T[None], size=len(ids), mode="linear", align_corners=False)[0].T
        cosines += list(cosine_similarity(made, wanted, dim=-1))
        squares += list((made - wanted).square().mean(-1))
    cosine, square = torch.stack(cosines).mean(), torch.stack(squares).mean()
    torch.testing.assert_close(term(step), 1 - cosine + 0.1 * square, **CLOSE)
    assert term.logged["cosine"] == pytest.approx(float(cosine.detach()), rel=1e-4)


def test_a_reconstruction_head_can_learn_the_context(step, built):
    latents = Latents(step.latents.values.detach(), step.latents.mask)
    still = Step(step.compressor, step.reader, step.examples, latents, 0, 10)
    term = built(ReconstructionTermConfig(hidden=64), still)
    optimizer = torch.optim.Adam(term.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        term(still).backward()
        optimizer.step()
    assert term.logged["cosine"] > 0.9


def test_gist_names_tokens_one_text_at_a_time_as_in_a_batch(
    compressor, examples, built, step_of, tiny_reader
):
    step = step_of(compressor, examples)
    term = built(GistTermConfig(width=32, heads=2), step)
    total, count = 0.0, 0
    for row, ids in enumerate(step.contexts):
        alone = stack([step.latents.row(row)])
        positions = torch.arange(len(ids))[None]
        vectors = term.head(alone, torch.tensor([len(ids)]), positions)[0]
        logits = vectors @ tiny_reader.embedding.T
        total += float(cross_entropy(logits.detach(), torch.tensor(ids), reduction="sum"))
        count += len(ids)
    assert float(term(step).detach()) == pytest.approx(total / count, rel=1e-4)


def test_gist_draws_other_tokens_at_other_steps_and_the_same_at_the_same(
    compressor, examples, built, step_of
):
    values = []
    for number in (0, 0, 1):
        step = step_of(compressor, examples, number)
        values.append(float(built(GistTermConfig(tokens=2), step)(step).detach()))
    assert values[0] == values[1] != values[2]


def test_a_gist_head_can_learn_the_tokens_and_their_places(step, built):
    latents = Latents(step.latents.values.detach(), step.latents.mask)
    still = Step(step.compressor, step.reader, step.examples, latents, 0, 10)
    term = built(GistTermConfig(width=64), still)
    optimizer = torch.optim.Adam(term.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        term(still).backward()
        optimizer.step()
    assert term.logged["accuracy"] > 0.9
