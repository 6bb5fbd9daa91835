import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.lora_kernels import lora_linear, lora_linear_ragged


def tensors(n: int, rows: int):
    generator = torch.Generator().manual_seed(n)
    shapes = {
        "x": (rows, 6),
        "weight": (5, 6),
        "lora_A": (n, 3, 6),
        "lora_B": (n, 5, 3),
        "scaling": (n,),
        "bias": (5,),
    }
    return {name: torch.randn(*s, generator=generator) for name, s in shapes.items()}


@given(st.lists(st.sampled_from([0, 1, 2, 5]), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_each_segment_equals_its_adapter_alone(lengths) -> None:
    made = tensors(len(lengths), sum(lengths))
    made["lora_B"].requires_grad_()
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    y = lora_linear_ragged(**made, offsets=offsets)
    assert y.shape == (sum(lengths), 5)
    for i, length in enumerate(lengths):
        rows = slice(int(offsets[i]), int(offsets[i]) + length)
        own = {k: made[k][i : i + 1] for k in ("lora_A", "lora_B", "scaling")}
        alone = lora_linear(made["x"][None, rows], made["weight"], **own, bias=made["bias"])
        torch.testing.assert_close(y[rows], alone[0], atol=1e-5, rtol=1e-5)
    if sum(lengths):
        y.sum().backward()
        for i, length in enumerate(lengths):
            assert bool(made["lora_B"].grad[i].abs().sum() > 0) == (length > 0)


@pytest.mark.parametrize("offsets", [[0, 2, 1, 4], [1, 2, 3, 4], [0, 1, 2, 3]])
def test_offsets_that_do_not_cover_x_are_refused(offsets) -> None:
    with pytest.raises(ValueError, match="offsets: expected 0 to 4"):
        lora_linear_ragged(**tensors(3, 4), offsets=offsets)


def test_x_must_be_flat() -> None:
    made = tensors(1, 4)
    made["x"] = made["x"][None]
    with pytest.raises(ValueError, match="x: expected .M, in."):
        lora_linear_ragged(**made, offsets=[0, 4])
