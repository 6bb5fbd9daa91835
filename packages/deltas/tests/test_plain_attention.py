"""Plain attention is the softmax attention of torch, values and gradients, shared heads too."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from llgbm.deltas.errors import ModelError
from llgbm.deltas.plain_attention import plain_attention


def inputs(heads: int, key_heads: int, t: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(t)
    shapes = [(2, heads, t, 6), (2, key_heads, t, 6), (2, key_heads, t, 6)]
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    # As projections leave them: [b, t, heads, d] in memory.
    return [x.transpose(1, 2).contiguous().transpose(1, 2).detach().requires_grad_() for x in drawn]


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (6, 6), (6, 2), (6, 1)])
@pytest.mark.parametrize("t", [1, 2, 9])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_those_of_torch(heads, key_heads, t, masked) -> None:
    query, key, value = inputs(heads, key_heads, t, torch.float64)
    mask = torch.ones(t, t, dtype=torch.bool).tril().expand(2, 1, t, t).clone()
    if t > 2:
        mask[1, :, :, 1] = False  # padding within a row
        mask[1, :, 1, 0] = True
    given = additive(mask, torch.float64) if masked else None
    mine, _ = plain_attention(torch.nn.Module(), query, key, value, given, 0.3)
    expected = scaled_dot_product_attention(
        query, key, value, mask if masked else None, scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(mine, expected, atol=1e-12, rtol=0)
    cotangent = torch.linspace(-1, 2, mine.numel(), dtype=torch.float64).view(mine.shape)
    ours = torch.autograd.grad((mine * cotangent).sum(), [query, key, value])
    theirs = torch.autograd.grad((expected * cotangent).sum(), [query, key, value])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_bf16_is_as_near_to_float64_as_plain_products_in_bf16_are() -> None:
    query, key, value = inputs(6, 2, 33, torch.bfloat16)
    mask = torch.ones(33, 33, dtype=torch.bool).tril()
    mine, _ = plain_attention(
        torch.nn.Module(), query, key, value, additive(mask[None, None], torch.bfloat16), 0.4
    )
    exact = scaled_dot_product_attention(
        query.double(), key.double(), value.double(), mask, scale=0.4, enable_gqa=True
    ).transpose(1, 2)
    # Scores and probabilities are rounded to 8 bits: 2^-8 each, relative to outputs of size one.
    assert (mine - exact).norm() < 1e-2 * exact.norm()


def test_only_inputs_are_kept_for_the_backward() -> None:
    query, key, value = inputs(6, 2, 9, torch.float32)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        plain_attention(torch.nn.Module(), query, key, value, None, 0.3)
    assert {x.data_ptr() for x in kept} == {x.data_ptr() for x in (query, key, value)}


def test_dropout_is_refused() -> None:
    with pytest.raises(ModelError, match="dropout: expected 0"):
        plain_attention(torch.nn.Module(), *inputs(2, 2, 3, torch.float32), None, 0.3, dropout=0.1)
