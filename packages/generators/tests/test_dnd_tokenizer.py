"""Tokens and their inverse, for both codings and any shape."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.deltas.errors import AdapterError
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dnd.dnd_coding import ConstantChunkWarning, DnDCoding
from llgbm.generators.dnd.layout import TokenLayout
from llgbm.generators.dnd.log_std_coding import LogStdCoding
from llgbm.generators.dnd.tokenizer import WeightTokenizer, token_mask

CODINGS = {"dnd": DnDCoding(), "log_std": LogStdCoding()}


def random_weights(spec, n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return size * (torch.randn(shape, generator=generator) + 0.1)

    return LoRAWeights(
        spec,
        {m.path: drawn(n, spec.r, m.in_features) for m in spec.modules},
        {m.path: drawn(n, m.out_features, spec.r) for m in spec.modules},
    )


def worst_error(restored, weights):
    """Largest error of a factor relative to its norm."""
    worst = 0.0
    for name in ("lora_A", "lora_B"):
        for path, factor in getattr(weights, name).items():
            error = (getattr(restored, name)[path] - factor).norm() / factor.norm()
            worst = max(worst, float(error))
    return worst


@st.composite
def specs(draw):
    sizes = st.integers(1, 40)
    modules = draw(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=4))
    shapes = tuple(
        ModuleShape(f"model.layers.{index // 2}.mlp.linear{index}", *shape)
        for index, shape in enumerate(modules)
    )
    return LoRASpec(shapes, draw(st.integers(1, 9)), 16.0)


@settings(max_examples=60, deadline=None)
@given(
    specs(),
    st.integers(1, 8),
    st.integers(1, 3),
    st.sampled_from(sorted(CODINGS)),
    st.integers(0, 2**20),
)
@pytest.mark.filterwarnings("ignore::llgbm.generators.dnd.dnd_coding.ConstantChunkWarning")
def test_round_trip_restores_any_shape_within_a_thousandth(spec, pairs, n, coding, seed):
    # Sizes as of trained factors: entries of 0.02.
    weights = random_weights(spec, n, 0.02, seed)
    tokenizer = WeightTokenizer(TokenLayout.from_spec(spec, 2 * pairs), CODINGS[coding])
    tokens = tokenizer.tokenize(weights)
    assert tuple(tokens.shape) == (n, *tokenizer.layout.shape)
    assert tokens.dtype == torch.float32
    restored = tokenizer.detokenize(tokens)
    assert restored.spec == spec
    assert worst_error(restored, weights) < 1e-3


@pytest.mark.parametrize("coding", sorted(CODINGS))
@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-3])
def test_round_trip_of_trained_sizes_is_far_below_a_thousandth(tiny_spec, coding, size):
    # 1e-4: the size of 1e-3 sits beside 0.1 in DnD's logarithm, which costs two digits of seven.
    weights = random_weights(tiny_spec, 2, size)
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16), CODINGS[coding])
    assert worst_error(tokenizer.detokenize(tokenizer.tokenize(weights)), weights) < 1e-4


@pytest.mark.parametrize("coding", sorted(CODINGS))
def test_round_trip_of_a_whole_qwen_adapter_is_below_a_thousandth_zero_B_included(coding):
    hidden, kv, intermediate = 896, 128, 4864
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, kv),
        "mlp.up_proj": (hidden, intermediate),
        "mlp.down_proj": (intermediate, hidden),
    }
    modules = tuple(
        ModuleShape(f"model.layers.{layer}.{name}", *shape)
        for layer in range(4)
        for name, shape in shapes.items()
    )
    weights = random_weights(LoRASpec(modules, 8, 16.0), 1, 0.01)
    untrained = modules[2].path
    weights.lora_B[untrained].zero_()
    tokenizer = WeightTokenizer(TokenLayout.from_spec(weights.spec, 128), CODINGS[coding])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantChunkWarning)
        restored = tokenizer.detokenize(tokenizer.tokenize(weights))
    assert not restored.lora_B[untrained].any()
    weights.lora_B[untrained].fill_(1.0)  # errors below are relative
    restored.lora_B[untrained].fill_(1.0)
    assert worst_error(restored, weights) < 1e-3


@pytest.mark.parametrize("size", [1e-5, 1e-7, 1e-9, 1e3])
def test_the_default_keeps_its_precision_at_any_size(tiny_spec, size):
    weights = random_weights(tiny_spec, 2, size)
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16))
    # 1e-5: the logarithm is at most 14 in float32, so its exponential is good to 1e-6.
    assert worst_error(tokenizer.detokenize(tokenizer.tokenize(weights)), weights) < 1e-5


def test_zero_B_comes_back_as_zeros_and_masks_nothing_by_default(tiny_spec):
    generator = torch.Generator().manual_seed(0)
    untrained = LoRAWeights.initial(tiny_spec, 2, generator)
    trained = random_weights(tiny_spec, 2, 0.02)
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16))
    tokens = tokenizer.tokenize(untrained)
    assert torch.equal(token_mask(tokens), token_mask(tokenizer.tokenize(trained)))
    restored = tokenizer.detokenize(tokens)
    for path in tiny_spec.paths:
        assert torch.equal(restored.lora_B[path], untrained.lora_B[path])
        error = (restored.lora_A[path] - untrained.lora_A[path]).norm()
        assert error < 1e-5 * untrained.lora_A[path].norm()


def test_zero_B_in_dnd_coding_warns_masks_its_content_and_comes_back_as_zeros(tiny_spec):
    untrained = LoRAWeights.initial(tiny_spec, 1, torch.Generator().manual_seed(0))
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16), DnDCoding())
    with pytest.warns(ConstantChunkWarning, match=r"\d\d% of the chunks have equal entries"):
        tokens = tokenizer.tokenize(untrained)
    for factor in tokenizer.layout.factors:
        content = tokens[:, factor.first : factor.first + factor.chunks, :-2, :-2]
        assert bool(content.isnan().all()) == (factor.factor == "lora_B")
    restored = tokenizer.detokenize(tokens)
    for path in tiny_spec.paths:
        assert torch.equal(restored.lora_B[path], untrained.lora_B[path])
        assert torch.isfinite(restored.lora_A[path]).all()


def test_a_nan_inside_a_generated_chunk_is_not_hidden(tiny_spec):
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16), DnDCoding())
    tokens = tokenizer.tokenize(random_weights(tiny_spec, 1, 0.02))
    tokens[0, 0, 1, 1] = math.nan
    with pytest.raises(AdapterError, match="q_proj.lora_A: expected finite values, got 1"):
        tokenizer.detokenize(tokens).check_finite()


def test_dnd_coding_writes_the_published_scales_in_the_last_rows_and_columns():
    spec = LoRASpec((ModuleShape("model.layers.0.self_attn.q_proj", 8, 6),), 4, 8.0)
    weights = random_weights(spec, 1, 0.02)
    tokens = WeightTokenizer(TokenLayout.from_spec(spec, 8), DnDCoding()).tokenize(weights)
    chunk = weights.lora_A["model.layers.0.self_attn.q_proj"][0]
    mean, log_std = chunk.mean() * 8, torch.log(0.9 * chunk.std() + 0.1) + 1.6
    token = tokens[0, 0]
    # 1e-6: float32 of values near one, formed in another order.
    tolerance = {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(token[-2:], torch.stack([mean, log_std]).repeat(2, 5), **tolerance)
    torch.testing.assert_close(
        token[:, -2:], torch.stack([mean, log_std]).expand(6, 2), **tolerance
    )
    normal = (chunk - chunk.mean()) / chunk.std()
    torch.testing.assert_close(token[:4, :8], normal, atol=1e-5, rtol=1e-5)
    # B transposed, 6 of 8 columns: the other two are padding.
    assert torch.equal(
        token_mask(tokens)[0, 1, :4],
        torch.arange(10).expand(4, 10).ne(6) & (torch.arange(10).expand(4, 10).ne(7)),
    )


def test_dnd_coding_averages_rows_and_columns_half_each_and_sizes_after_the_exponential():
    spec = LoRASpec((ModuleShape("linear", 4, 4),), 2, 4.0)
    tokenizer = WeightTokenizer(TokenLayout.from_spec(spec, 4), DnDCoding())
    tokens = torch.zeros(1, 2, 4, 6)
    tokens[:, :, :2, :4] = 1.0
    tokens[:, :, -2, 1::2], tokens[:, :, -1, 1::2] = 0.9, 0.5
    tokens[:, :, 0, -1], tokens[:, :, 1, -1] = 0.7, 0.1
    # Half 0: the last row but one (0.9), and rows 0 and 2 of the last columns (0.7, 0.9);
    # half 1 likewise with 0.5, and 0.1 and 0.5.
    halves = [(0.9 + (0.7 + 0.9) / 2) / 2, (0.5 + (0.1 + 0.5) / 2) / 2]
    size = sum((math.exp(half - 1.6) - 0.1) / 0.9 for half in halves) / 2
    restored = tokenizer.detokenize(tokens).lora_A["linear"]
    torch.testing.assert_close(restored, torch.full((1, 2, 4), size), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("coding", sorted(CODINGS))
def test_the_inverse_is_differentiable_in_every_entry_that_it_reads(tiny_spec, coding):
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 24), CODINGS[coding])
    target = tokenizer.tokenize(random_weights(tiny_spec, 2, 0.5))
    tokens = target.nan_to_num(nan=0.0).requires_grad_()
    restored = tokenizer.detokenize(tokens)
    factors = [*restored.lora_A.values(), *restored.lora_B.values()]
    sum(factor.square().sum() for factor in factors).backward()
    assert torch.equal(tokens.grad != 0, token_mask(target))


def test_gradients_of_the_inverse_are_those_of_finite_differences():
    spec = LoRASpec((ModuleShape("linear", 5, 3),), 2, 4.0)
    tokenizer = WeightTokenizer(TokenLayout.from_spec(spec, 4))
    tokens = torch.randn(1, *tokenizer.layout.shape, generator=torch.Generator().manual_seed(0))
    direction = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))

    def value(tokens):
        restored = tokenizer.detokenize(tokens)
        return restored.lora_A["linear"].square().sum() + restored.lora_B["linear"].sum()

    tokens.requires_grad_()
    (gradient,) = torch.autograd.grad(value(tokens), tokens)
    step = 1e-2
    with torch.no_grad():
        ahead, behind = value(tokens + step * direction), value(tokens - step * direction)
    # Central differences: 1e-5 of rounding over the step, and the step squared of curvature.
    torch.testing.assert_close(
        (ahead - behind) / (2 * step), (gradient * direction).sum(), rtol=1e-2, atol=1e-2
    )


def test_factors_are_contiguous_and_of_the_model(tiny_spec):
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16))
    restored = tokenizer.detokenize(torch.zeros(3, *tokenizer.layout.shape))
    assert restored.n == 3
    assert all(f.is_contiguous() for f in (*restored.lora_A.values(), *restored.lora_B.values()))


def test_other_specs_shapes_and_values_are_refused(tiny_spec, make_teachers):
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16))
    other = LoRASpec(tiny_spec.modules, 2, 8.0)
    with pytest.raises(AdapterError, match=r"r=4.*got r=2"):
        tokenizer.tokenize(make_teachers(other, 1))
    with pytest.raises(AdapterError, match=r"expected shape \(n, \*\(.*got \(1, 3, 4, 5\)"):
        tokenizer.detokenize(torch.zeros(1, 3, 4, 5))
    teachers = make_teachers(tiny_spec, 1)
    teachers.lora_B[tiny_spec.paths[0]][0, 0, 0] = math.inf
    with pytest.raises(AdapterError, match="lora_B: expected finite values"):
        tokenizer.tokenize(teachers)
