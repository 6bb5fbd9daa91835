import pytest
import torch
from torch.nn.functional import cosine_similarity

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.transforms import TRANSFORMS
from llgbm.latentwire.transforms.anchor_offset import AnchorOffsetTransformConfig
from llgbm.latentwire.transforms.batch import BatchTransformConfig
from llgbm.latentwire.transforms.nearest import NearestTransformConfig
from llgbm.latentwire.transforms.neighbours import nearest_rows
from llgbm.latentwire.transforms.rms import RMSTransformConfig
from llgbm.latentwire.transforms.soft_codebook import SoftCodebookTransformConfig, spread_rows


def vectors(rows: int = 3, slots: int = 5, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, slots, width, generator=torch.Generator().manual_seed(seed))


ALL = torch.ones(3, 5, dtype=torch.bool)
SOME = torch.arange(5) < torch.tensor([[5], [2], [1]])


@pytest.fixture(scope="module")
def replay(tiny_reader, examples):
    return replayed(tiny_reader, [tiny_reader.tokens(example.context) for example in examples])


def test_every_vector_has_the_size_of_embeddings_and_its_own_direction(tiny_reader) -> None:
    values = vectors() * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]
    moved = RMSTransformConfig(scale=1.5).build(tiny_reader)(values, ALL)
    sizes = moved.square().mean(-1).sqrt()
    torch.testing.assert_close(sizes, torch.full((3, 5), 1.5 * tiny_reader.embedding_rms))
    torch.testing.assert_close(cosine_similarity(moved, values, dim=-1), torch.ones(3, 5))
    zeros = torch.zeros(1, 1, 64, requires_grad=True)
    out = RMSTransformConfig().build(tiny_reader)(zeros, ALL[:1, :1])
    assert not out.any()
    assert torch.autograd.grad(out.sum(), zeros)[0].isfinite().all()


def test_a_training_batch_takes_the_tables_moments(tiny_reader) -> None:
    transform = BatchTransformConfig(prior=1e-6).build(tiny_reader).train()
    values = 7 * vectors(40, 5) + 3
    mask = torch.rand(40, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    values[~mask] = 1e4
    moved = transform(values, mask)[mask]
    table = tiny_reader.embedding
    torch.testing.assert_close(moved.mean(0), table.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.std(0, correction=0), table.std(0), rtol=1e-4, atol=0)


def test_in_evaluation_a_vector_does_not_depend_on_its_batch(tiny_reader) -> None:
    transform = BatchTransformConfig().build(tiny_reader)
    with torch.no_grad():
        # Nothing seen yet: vectors stay as they are.
        torch.testing.assert_close(transform.eval()(vectors(), ALL), vectors())
        transform.train()(2 * vectors(seed=1), ALL)
        state = {name: each.clone() for name, each in transform.state_dict().items()}
        alone = transform.eval()(vectors()[:1], ALL[:1])
        together = transform(torch.cat([vectors()[:1], 9 * vectors(seed=2)]), torch.cat([ALL] * 2))
    torch.testing.assert_close(together[:1], alone)
    assert (alone - vectors()[:1]).abs().max() > 1e-3
    # Evaluating left the running statistics alone.
    for name, each in transform.state_dict().items():
        assert torch.equal(each, state[name])


def test_running_statistics_come_to_those_of_the_vectors(tiny_reader) -> None:
    transform = BatchTransformConfig(momentum=0.2).build(tiny_reader).train()
    values = 4 * vectors() - 2
    for _ in range(80):
        transform(values, SOME)
    moved = transform.eval()(values, SOME)[SOME]
    table = tiny_reader.embedding
    # What is left of the first statistics is 0.8 ** 80, far below rounding.
    torch.testing.assert_close(moved.mean(0), table.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.std(0, correction=0), table.std(0), rtol=1e-4, atol=0)
    loaded = BatchTransformConfig().build(tiny_reader).eval()
    loaded.load_state_dict(transform.state_dict())
    assert torch.equal(loaded(values, SOME)[SOME], moved)


def test_a_batch_of_one_slot_still_tells_vectors_apart(tiny_reader) -> None:
    moved = []
    for seed in (0, 1):
        values = vectors(1, 1, seed=seed).requires_grad_(True)
        transform = BatchTransformConfig().build(tiny_reader).train()
        moved.append(transform(values, ALL[:1, :1]))
        (gradient,) = torch.autograd.grad(moved[-1].square().sum(), values)
        assert gradient.isfinite().all()
        assert gradient.abs().min() > 0
    assert (moved[0] - moved[1]).abs().max() > tiny_reader.embedding_rms


def test_nearest_rows_are_those_of_a_whole_search() -> None:
    table, values = vectors(1, 53)[0].bfloat16(), vectors(1, 6, seed=1)[0]
    cosines = cosine_similarity(values[:, None], table.float()[None], dim=-1)
    for k, chunk in ((1, 7), (8, 7), (8, 5), (8, 53), (53, 20)):
        found = nearest_rows(values, table, k, chunk)
        assert torch.equal(found, cosines.topk(k, dim=-1).indices)


def test_the_nearest_one_is_exactly_a_row_of_the_table(tiny_reader) -> None:
    transform = NearestTransformConfig(k=1, chunk=5000).build(tiny_reader)
    values = vectors().requires_grad_(True)
    moved = transform(values, SOME)
    cosines = cosine_similarity(values[SOME][:, None], tiny_reader.embedding[None], dim=-1)
    assert torch.equal(moved[SOME], tiny_reader.embedding[cosines.argmax(-1)])
    assert not moved[~SOME].any()
    # One weight cannot move: the gradient goes straight through.
    weights = vectors(seed=4)
    (gradient,) = torch.autograd.grad((moved * weights).sum(), values)
    assert torch.equal(gradient, weights * SOME[..., None])


@pytest.mark.parametrize(
    "config", [NearestTransformConfig(k=1), AnchorOffsetTransformConfig()], ids=lambda c: c.name
)
def test_embeddings_of_text_stay_as_they_are(config, tiny_reader, replay) -> None:
    transform = config.build(tiny_reader)
    assert torch.equal(transform(replay.embeds, replay.mask), replay.embeds)


def test_nearest_rows_are_mixed_by_a_softmax_that_gradients_pass(tiny_reader) -> None:
    transform = NearestTransformConfig(k=4, temperature=0.05).build(tiny_reader)
    values = vectors(1, 2).requires_grad_(True)
    moved = transform(values, ALL[:1, :2])
    table = tiny_reader.embedding
    for slot in range(2):
        cosines = cosine_similarity(values[0, slot], table, dim=-1)
        best, rows = cosines.topk(4)
        lengths = values[0, slot].norm() / (8 * tiny_reader.embedding_rms)
        expected = ((lengths * best / 0.05).softmax(0)[:, None] * table[rows]).sum(0)
        torch.testing.assert_close(moved[0, slot], expected)
    (gradient,) = torch.autograd.grad(moved.square().sum(), values)
    # A vector's length counts too: what scales it can learn.
    assert ((gradient * values).sum(-1).abs() > 1e-4).all()
    sharp = NearestTransformConfig(k=4, temperature=1e-4).build(tiny_reader)
    nearest = NearestTransformConfig(k=1).build(tiny_reader)
    torch.testing.assert_close(sharp(values, ALL[:1, :2]), nearest(values, ALL[:1, :2]))


def test_offsets_from_the_anchor_are_never_longer_than_the_radius(tiny_reader) -> None:
    transform = AnchorOffsetTransformConfig(bound=0.8, start=0.25).build(tiny_reader)
    nearest = NearestTransformConfig(k=1).build(tiny_reader)
    typical = tiny_reader.embedding_rms * 8
    for share in (None, -30.0, 30.0):
        if share is not None:
            transform.share.data.fill_(share)
        radius = float(transform.radius.detach())
        assert radius <= 0.8 * typical * (1 + 1e-6)
        for size in (0.01, 1.0, 100.0):
            values = size * vectors()
            lengths = (transform(values, ALL) - nearest(values, ALL)).norm(dim=-1)
            # Rounding of a sum of vectors whose length is about 0.8.
            assert lengths.max() <= radius + 1e-6
    fresh = AnchorOffsetTransformConfig(bound=0.8, start=0.25).build(tiny_reader)
    assert float(fresh.radius.detach()) == pytest.approx(0.8 * 0.25 * typical, rel=1e-5)


def test_near_an_embedding_a_vector_stays_and_far_from_one_the_radius_learns(tiny_reader) -> None:
    transform = AnchorOffsetTransformConfig().build(tiny_reader)
    rows = tiny_reader.embedding[100:115].reshape(3, 5, 64)
    near = rows + 1e-3 * tiny_reader.embedding_rms * vectors()
    # tanh(u) / u is 1 - u * u / 3, and u is about 2e-3 here.
    torch.testing.assert_close(transform(near, ALL), near, rtol=0, atol=1e-6)
    far = vectors().requires_grad_(True)
    transform(far, ALL).square().sum().backward()
    assert transform.share.grad.abs() > 0
    assert far.grad.abs().sum() > 0
    on_a_row = rows.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(transform(on_a_row, ALL).sum(), on_a_row)
    torch.testing.assert_close(gradient, torch.ones_like(gradient), rtol=1e-3, atol=1e-3)


def test_codes_start_as_different_rows_that_lie_far_apart(tiny_reader) -> None:
    # Ten tight groups: drawing by distance finds them all, drawing evenly would miss some.
    sizes = [300, *([3] * 9)]
    centres = 10 * vectors(1, 10)[0]
    groups = torch.repeat_interleave(torch.arange(10), torch.tensor(sizes))
    table = centres[groups] + 1e-3 * vectors(1, len(groups), seed=1)[0]
    for seed in range(5):
        chosen = spread_rows(table, 42, seed)[:10]
        assert sorted(groups[chosen].tolist()) == list(range(10))
    same = torch.ones(20, 4)
    assert sorted(spread_rows(same, 20, 0).tolist()) == list(range(20))
    codes = [SoftCodebookTransformConfig(codes=16, seed=s).build(tiny_reader) for s in (0, 0, 1)]
    assert torch.equal(codes[0].codebook, codes[1].codebook)
    assert not torch.equal(codes[0].codebook, codes[2].codebook)
    table = tiny_reader.embedding
    assert ((codes[0].codebook[:, None] == table[None]).all(-1).sum(1) >= 1).all()


def test_vectors_become_mixes_of_codes_and_at_low_temperature_a_code(tiny_reader) -> None:
    config = SoftCodebookTransformConfig(codes=12, temperature=0.2)
    transform = config.build(tiny_reader)
    values = (0.1 * vectors()).requires_grad_(True)
    moved = transform(values, ALL)
    codes = transform.codebook.detach()
    cosines = cosine_similarity(values[:, :, None], codes, dim=-1)
    lengths = values.norm(dim=-1, keepdim=True) / (8 * tiny_reader.embedding_rms)
    torch.testing.assert_close(moved, (lengths * cosines / 0.2).softmax(-1) @ codes)
    moved.square().sum().backward()
    assert (transform.codebook.grad.abs().sum(1) > 0).all()
    assert ((values.grad * values).sum(-1).abs() > 1e-6).all()
    assert "codebook" in transform.state_dict()
    sharp = SoftCodebookTransformConfig(codes=12, temperature=1e-5).build(tiny_reader)
    torch.testing.assert_close(sharp(values, ALL), codes[cosines.argmax(-1)])


@pytest.mark.parametrize("name", ["nearest", "anchor_offset", "rms", "none"])
def test_the_readers_table_is_not_saved(name, tiny_reader) -> None:
    held = TRANSFORMS[name]().build(tiny_reader).state_dict().values()
    assert sum(each.numel() for each in held) <= 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rms", {"scale": 0.0}, "transform.scale: expected above 0, got 0"),
        ("batch", {"momentum": 0.0}, "momentum above 0"),
        ("batch", {"prior": 0.0}, "prior above 0"),
        ("nearest", {"k": 0}, "transform.k: expected 1 to 49152, got 0"),
        ("nearest", {"k": 49153}, "transform.k: expected 1 to 49152, got 49153"),
        ("nearest", {"temperature": 0.0}, "temperature above 0"),
        ("anchor_offset", {"start": 1.0}, "start between 0 and 1"),
        ("soft_codebook", {"codes": 1}, "expected 2 to 49152 codes"),
    ],
)
def test_numbers_out_of_range_are_refused(name, options, message, tiny_reader) -> None:
    with pytest.raises(ConfigError, match=message):
        TRANSFORMS[name](**options).build(tiny_reader)
