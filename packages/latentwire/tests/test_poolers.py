from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States, slot_mask
from llgbm.latentwire.poolers import POOLERS
from llgbm.latentwire.poolers.attention import AttentionPoolerConfig
from llgbm.latentwire.poolers.base import segments
from llgbm.latentwire.poolers.convolution import ConvolutionPoolerConfig
from llgbm.latentwire.poolers.expand import ExpandPoolerConfig
from llgbm.latentwire.poolers.hierarchical import HierarchicalPoolerConfig, stage_sizes
from llgbm.latentwire.poolers.mean import MeanPoolerConfig
from llgbm.latentwire.poolers.pca import PCAPoolerConfig
from llgbm.latentwire.poolers.pca_refined import RefinedPCAPoolerConfig
from llgbm.latentwire.slots import SlotsConfig

TRAINED = ("attention", "hierarchical", "convolution", "expand")


class LowRankEncoder(Encoder):
    """One vector a letter, all in a subspace of 5 dimensions beside a mean; trains nothing."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.width = width
        draw = torch.Generator().manual_seed(3)
        inner = torch.randn(26, 5, generator=draw) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5])
        basis = torch.linalg.qr(torch.randn(width, 5, generator=draw)).Q.T
        self.table = inner @ basis + torch.randn(width, generator=draw)

    def forward(self, texts):
        lengths = torch.tensor([len(text) for text in texts])
        rows = [self.table[[ord(letter) - ord("a") for letter in text]] for text in texts]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return States(padded, slot_mask(lengths))


@pytest.fixture(scope="module")
def frozen(tiny_reader):
    return PretrainedEncoderConfig(tuning="frozen").build(tiny_reader)


@pytest.fixture(scope="module")
def states(frozen, examples):
    return frozen([example.context for example in examples])


def build(config, encoder, reader, **slots):
    torch.manual_seed(0)
    return config.build(encoder, reader, SlotsConfig(**slots))


LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4)


@settings(deadline=None)
@given(LENGTHS)
def test_segments_hold_every_position_once_and_are_of_nearly_equal_size(pairs) -> None:
    lengths, counts = (torch.tensor(each) for each in zip(*pairs, strict=True))
    for row, (length, count) in zip(segments(lengths, counts), pairs, strict=True):
        held = row > 0
        sizes = held.sum(1)[:count]
        assert not held[count:].any()
        assert not held[:, length:].any()
        torch.testing.assert_close(row[:count].sum(1), torch.ones(count))
        if count <= length:
            assert torch.equal(held.sum(0)[:length], torch.ones(length, dtype=torch.long))
            assert sizes.max() - sizes.min() <= 1
        else:
            assert torch.equal(sizes, torch.ones(count, dtype=torch.long))
            assert held.sum(0)[:length].min() >= 1
        places = [int(slot.nonzero()[0]) for slot in held[:count]]
        assert places == sorted(places)


@pytest.mark.parametrize("name", TRAINED)
@settings(max_examples=10, deadline=None)
@given(counts=st.lists(st.integers(1, 20), min_size=4, max_size=4))
def test_every_text_gets_exactly_its_slots_and_what_pads_it_is_not_seen(
    name, counts, states, frozen, tiny_reader
) -> None:
    pooler = build(POOLERS[name](), frozen, tiny_reader, largest=20)
    wanted = torch.tensor(counts)
    assert len(set(states.lengths.tolist())) > 1
    latents = pooler(states, wanted)
    assert torch.equal(latents.counts, wanted)
    assert latents.values.shape == (4, max(counts), pooler.width)
    assert not latents.values[~latents.mask].any()
    noise = torch.randn(states.values.shape) * 10
    noisy = replace(states, values=torch.where(states.mask[..., None], states.values, noise))
    torch.testing.assert_close(pooler(noisy, wanted).values, latents.values, rtol=1e-4, atol=1e-5)
    # Alone, a text has no padding at all; sums run in another order then.
    length = int(states.lengths[2])
    alone = States(
        states.values[2:3, :length], states.mask[2:3, :length], states.inputs[2:3, :length]
    )
    torch.testing.assert_close(
        pooler(alone, wanted[2:3]).values[0], latents.row(2), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "config",
    [
        AttentionPoolerConfig(width=12, start_from_embeddings=False),
        HierarchicalPoolerConfig(width=12, start_from_embeddings=False, stages=3),
        ConvolutionPoolerConfig(width=12, start_from_embeddings=False),
        ExpandPoolerConfig(width=12),
        PCAPoolerConfig(width=12),
        RefinedPCAPoolerConfig(width=12, components=6),
    ],
)
def test_latents_are_as_wide_as_asked(config, states, frozen, examples, tiny_reader) -> None:
    pooler = build(config, frozen, tiny_reader)
    pooler.fit(frozen, [example.context for example in examples])
    assert pooler.width == 12
    assert pooler(states, torch.tensor([2, 1, 3, 2])).values.shape == (4, 3, 12)


@pytest.mark.parametrize("name", ["attention", "hierarchical", "convolution"])
def test_training_begins_near_mean_embeddings(name, states, frozen, tiny_reader) -> None:
    pooler = build(POOLERS[name](), frozen, tiny_reader)
    counts = torch.tensor([2, 1, 3, 2])
    mean = MeanPoolerConfig(source="embeddings").build(frozen, tiny_reader, SlotsConfig())
    expected = mean(states, counts).values
    # What is added has a tenth of an embedding's size per hidden unit's size, which is below 1.
    away = (pooler(states, counts).values - expected).square().mean().sqrt()
    assert 0 < away < 0.15 * tiny_reader.embedding_rms


@pytest.mark.parametrize("name", ["attention", "hierarchical", "convolution"])
def test_a_width_that_embeddings_cannot_be_added_to_is_refused(name, frozen, tiny_reader) -> None:
    with pytest.raises(ConfigError, match="pooler.width: expected 0 or 64 .*, got 12"):
        POOLERS[name](width=12).build(frozen, tiny_reader, SlotsConfig())


@pytest.mark.parametrize("name", ["attention", "hierarchical", "expand"])
def test_heads_that_do_not_divide_the_width_are_refused(name, frozen, tiny_reader) -> None:
    with pytest.raises(ConfigError, match="divisor of 64, got 7"):
        POOLERS[name](heads=7).build(frozen, tiny_reader, SlotsConfig())


def test_slot_j_always_has_query_j(states, frozen, tiny_reader) -> None:
    for config in (AttentionPoolerConfig(start_from_embeddings=False), ExpandPoolerConfig()):
        pooler = build(config, frozen, tiny_reader, largest=6)
        few = pooler(states, torch.full((4,), 3)).values
        many = pooler(states, torch.full((4,), 6)).values
        torch.testing.assert_close(many[:, :3], few)
        assert (many[:, 3:] - few).abs().max() > 1e-3
        with pytest.raises(ConfigError, match="at most 6 for this pooler, got 7"):
            pooler(states, torch.full((4,), 7))


def seen_by(pooler, states, counts, slot):
    """Positions of the first text whose states move a slot of it."""
    values = states.values[:1].clone().requires_grad_(True)
    one = States(values, states.mask[:1], states.inputs[:1])
    latents = pooler(one, torch.tensor([counts]))
    (gradient,) = torch.autograd.grad(latents.values[0, slot].square().sum(), values)
    return gradient[0].abs().sum(1).nonzero()[:, 0].tolist()


def long_states(width: int, length: int) -> States:
    values = torch.randn(1, length, width, generator=torch.Generator().manual_seed(1))
    return States(values, torch.ones(1, length, dtype=torch.bool), values)


def test_hierarchical_slots_see_their_share_and_a_step_beyond_at_every_stage(
    frozen, tiny_reader
) -> None:
    states = long_states(64, 40)
    pooler = build(HierarchicalPoolerConfig(stages=3), frozen, tiny_reader)
    # 40 to 20 to 10 to 5: a step beyond is 4, 2 and 1 positions.
    assert seen_by(pooler, states, 5, 0) == list(range(8 + 7))
    assert seen_by(pooler, states, 5, 2) == list(range(16 - 7, 24 + 7))


@pytest.mark.parametrize("counts", [2, 20, 40])
def test_every_stage_chooses_what_it_takes(counts, frozen, tiny_reader) -> None:
    states = long_states(64, 20)
    pooler = build(HierarchicalPoolerConfig(stages=3), frozen, tiny_reader)
    pooler(states, torch.tensor([counts])).values.square().sum().backward()
    sizes = {name: float(each.grad.norm()) for name, each in pooler.named_parameters()}
    # Where attention has one vector to look at, rounding leaves about 1e-9.
    assert min(sizes.values()) > 1e-5, sizes


def test_hierarchical_stages_halve_and_end_at_the_slots() -> None:
    sizes = stage_sizes(torch.tensor([40, 9, 3]), torch.tensor([3, 3, 7]), 3)
    assert [size.tolist() for size in sizes] == [[20, 5, 7], [10, 3, 7], [3, 3, 7]]
    with pytest.raises(ConfigError, match="at least 2, got 1"):
        HierarchicalPoolerConfig(stages=1).build(None, None, None)


def test_a_convolution_strides_by_the_ratio_and_sees_its_overlap(frozen, tiny_reader) -> None:
    states = long_states(64, 16)
    pooler = build(ConvolutionPoolerConfig(overlap=1), frozen, tiny_reader, ratio=4)
    assert pooler.kernel.stride == (4,)
    assert pooler.kernel.kernel_size == (6,)
    assert seen_by(pooler, states, 4, 0) == [0, 1, 2, 3, 4]
    assert seen_by(pooler, states, 4, 2) == [7, 8, 9, 10, 11, 12]
    assert seen_by(pooler, states, 2, 0) == list(range(9))
    assert build(ConvolutionPoolerConfig(), frozen, tiny_reader, fixed=3).stride == 1


def test_all_that_slots_know_went_through_the_few_vectors(frozen, tiny_reader) -> None:
    states = long_states(64, 8)
    counts = torch.tensor([4])

    def rank(pooler):
        def latents(values):
            return pooler(States(values, states.mask), counts).values

        jacobian = torch.autograd.functional.jacobian(latents, states.values)
        sizes = torch.linalg.svdvals(jacobian.reshape(4 * 64, -1))
        # Directions that rounding alone makes lie far below the largest.
        return int((sizes > 1e-5 * sizes[0]).sum())

    two = build(ExpandPoolerConfig(vectors=2), frozen, tiny_reader)
    assert two.global_vectors(states).shape == (1, 2, 64)
    assert rank(two) <= 2 * 64
    direct = AttentionPoolerConfig(start_from_embeddings=False)
    assert rank(build(direct, frozen, tiny_reader)) > 2 * 64
    with pytest.raises(ConfigError, match="pooler.vectors: expected at least 2, got 1"):
        ExpandPoolerConfig(vectors=1).build(frozen, tiny_reader, SlotsConfig())


def test_means_are_those_of_the_segments(states, frozen, tiny_reader) -> None:
    pooler = build(MeanPoolerConfig(), frozen, tiny_reader)
    assert not list(pooler.parameters())
    counts = torch.tensor([2, 1, 3, 2])
    latents = pooler(states, counts)
    for index, count in enumerate(counts.tolist()):
        real = states.values[index, : int(states.lengths[index])]
        edges = [j * len(real) // count for j in range(count + 1)]
        means = [real[i:j].mean(0) for i, j in pairwise(edges)]
        torch.testing.assert_close(latents.row(index), torch.stack(means))


def test_with_a_slot_a_position_means_are_the_vectors_themselves(
    states, frozen, tiny_reader
) -> None:
    for source in ("states", "embeddings"):
        pooler = build(MeanPoolerConfig(source=source), frozen, tiny_reader, ratio=1)
        latents = pooler(states, SlotsConfig(ratio=1).counts(states.lengths))
        expected = states.values if source == "states" else states.inputs
        for index in range(4):
            assert torch.equal(latents.row(index), expected[index, states.mask[index]])


def test_embeddings_are_not_pooled_beside_an_encoder_that_trains(tiny_reader, frozen) -> None:
    tuned = PretrainedEncoderConfig(tuning="lora", r=2).build(tiny_reader)
    for name in ("mean", "pca", "pca_refined"):
        with pytest.raises(ConfigError, match="trains nothing"):
            POOLERS[name](source="embeddings").build(tuned, tiny_reader, SlotsConfig())
        with pytest.raises(ConfigError, match="expected one of .*, got 'words'"):
            POOLERS[name](source="words").build(frozen, tiny_reader, SlotsConfig())


def test_embeddings_are_asked_of_an_encoder_that_has_them(tiny_reader) -> None:
    encoder = LowRankEncoder()
    pooler = build(MeanPoolerConfig(source="embeddings"), encoder, tiny_reader)
    with pytest.raises(ConfigError, match="reads the reader's tokens"):
        pooler(encoder(["abc"]), torch.tensor([1]))


TEXTS = ["thequickbrownfox", "jumpsoverthelazydog", "packmyboxwithfivedozen", "jugs", "zzxyq"]


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_the_basis_is_that_of_scikit_learn_on_all_positions(batch, tiny_reader) -> None:
    encoder = LowRankEncoder()
    pooler = build(PCAPoolerConfig(width=3), encoder, tiny_reader)
    pooler.fit(encoder, TEXTS, batch=batch)
    rows = torch.cat([encoder([text]).values[0] for text in TEXTS]).double().numpy()
    theirs = PCA(n_components=3, svd_solver="full").fit(rows)
    assert int(pooler.positions) == len(rows) == sum(map(len, TEXTS))
    # Both in float64; the buffers hold float32.
    np.testing.assert_allclose(pooler.mean, theirs.mean_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(pooler.variance, theirs.explained_variance_, rtol=1e-6)
    signs = np.sign((pooler.components.numpy() * theirs.components_).sum(1))[:, None]
    np.testing.assert_allclose(pooler.components, signs * theirs.components_, atol=1e-6)
    assert pooler.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-6)
    # A slot a position: only the width is reduced.
    text = TEXTS[0]
    latents = pooler(encoder([text]), torch.tensor([len(text)]))
    ours = latents.row(0).numpy()
    np.testing.assert_allclose(ours, theirs.transform(rows[: len(text)]) * signs.T, atol=1e-5)


def test_whitened_components_have_unit_variance_on_what_was_fitted(tiny_reader) -> None:
    encoder = LowRankEncoder()
    pooler = build(PCAPoolerConfig(width=5, whiten=True), encoder, tiny_reader)
    pooler.fit(encoder, TEXTS)
    states = encoder(TEXTS)
    latents = pooler(states, states.lengths)
    rows = latents.values[latents.mask]
    torch.testing.assert_close(torch.cov(rows.T), torch.eye(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        pooler.restored(rows), states.values[states.mask], rtol=1e-5, atol=1e-5
    )


def test_what_lies_in_the_span_is_restored_and_less_is_not(tiny_reader) -> None:
    encoder = LowRankEncoder()
    states = encoder(TEXTS)
    whole = build(PCAPoolerConfig(width=5), encoder, tiny_reader)
    whole.fit(encoder, TEXTS)
    assert whole.explained == pytest.approx(1, abs=1e-6)
    back = whole.restored(whole(states, states.lengths).values)
    real = states.values[states.mask]
    torch.testing.assert_close(back[states.mask], real, rtol=1e-5, atol=1e-5)
    part = build(PCAPoolerConfig(width=3), encoder, tiny_reader)
    part.fit(encoder, TEXTS)
    missing = part.restored(part(states, states.lengths).values)[states.mask] - real
    share = missing.square().sum() / (real - real.mean(0)).square().sum()
    assert float(share) == pytest.approx(1 - part.explained, rel=1e-3)
    assert share > 0.01


def test_every_text_moves_the_basis(tiny_reader) -> None:
    encoder = LowRankEncoder()
    whole, part = (build(PCAPoolerConfig(width=3), encoder, tiny_reader) for _ in range(2))
    whole.fit(encoder, TEXTS)
    for left_out in range(len(TEXTS)):
        part.fit(encoder, TEXTS[:left_out] + TEXTS[left_out + 1 :])
        assert (part.components - whole.components).abs().max() > 1e-4


def test_a_pca_is_not_used_before_it_is_fitted_and_keeps_its_fit(frozen, states, examples) -> None:
    reader = frozen._base[0]
    texts = [example.context for example in examples]
    counts = torch.tensor([2, 1, 3, 2])
    for config in (PCAPoolerConfig(width=4), RefinedPCAPoolerConfig(components=4)):
        fitted, loaded = (build(config, frozen, reader) for _ in range(2))
        with pytest.raises(ConfigError, match="expected a fitted basis"):
            fitted(states, counts)
        fitted.fit(frozen, texts)
        with pytest.raises(ConfigError, match="more than 64 positions"):
            build(PCAPoolerConfig(), frozen, reader).fit(frozen, texts)
        loaded.load_state_dict(fitted.state_dict())
        assert torch.equal(loaded(states, counts).values, fitted(states, counts).values)


def test_fitting_leaves_the_encoder_in_its_mode(tiny_reader) -> None:
    encoder = LowRankEncoder()
    pooler = build(PCAPoolerConfig(width=2), encoder, tiny_reader)
    for mode in (True, False):
        encoder.train(mode)
        pooler.fit(encoder, TEXTS)
        assert encoder.training is mode


def test_refinement_starts_at_what_the_components_restore(tiny_reader) -> None:
    encoder = LowRankEncoder()
    states = encoder(TEXTS)
    pooler = build(RefinedPCAPoolerConfig(components=5), encoder, tiny_reader)
    pooler.fit(encoder, TEXTS)
    latents = pooler(states, states.lengths)
    # The MLP adds about a hundredth of a vector of size 1.
    away = (latents.values - states.values)[latents.mask].square().mean().sqrt()
    assert 0 < away < 0.02
    narrow = build(RefinedPCAPoolerConfig(components=3, width=3), encoder, tiny_reader)
    narrow.fit(encoder, TEXTS)
    away = narrow(states, states.lengths).values - narrow.pca(states, states.lengths).values
    assert 0 < away.square().mean().sqrt() < 0.02


def test_refinement_learns_what_components_alone_cannot_say(tiny_reader) -> None:
    encoder = LowRankEncoder()
    states = encoder(TEXTS)
    pooler = build(RefinedPCAPoolerConfig(components=5), encoder, tiny_reader)
    pooler.fit(encoder, TEXTS)
    target = states.values.square()

    def loss():
        latents = pooler(states, states.lengths)
        return (latents.values - target)[latents.mask].square().mean()

    design = pooler.pca(states, states.lengths).values[states.mask]
    design = torch.cat([design, torch.ones(len(design), 1)], dim=1)
    wanted = target[states.mask]
    best_line = design @ torch.linalg.lstsq(design, wanted).solution
    optimizer = torch.optim.Adam(pooler.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss() < 0.5 * (best_line - wanted).square().mean()
