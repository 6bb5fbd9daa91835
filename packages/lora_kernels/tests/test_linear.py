"""Every backend against the definition in float64: values and all gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from llgbm.lora_kernels import lora_linear
from llgbm.lora_kernels.backends import has_triton
from llgbm.lora_kernels.naive import naive_lora_linear

SIZES = st.sampled_from([1, 2, 7, 16, 37, 64, 65, 127, 130])
triton_only = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
KERNELS = ["triton", "triton_fused"]
BACKENDS = ["torch", *(pytest.param(name, marks=triton_only) for name in KERNELS)]
# Float32 sums of at most 730 terms.
TOLERANCE = 4e-6


@given(st.integers(1, 5), st.sampled_from([0, 1, 7, 37]), SIZES, SIZES, st.integers(1, 17))
@settings(max_examples=30, deadline=None)
def test_torch_equals_the_definition(lora, n, m, in_features, out_features, r) -> None:
    tensors = lora.inputs((n, m), in_features, out_features, r)
    got = lora.run(lora_linear, tensors, backend="torch")
    lora.assert_close(got, tensors, naive_lora_linear, TOLERANCE)


@triton_only
@given(
    st.sampled_from(KERNELS),
    st.integers(1, 3),
    st.sampled_from([0, 1, 7, 33, 65]),
    SIZES,
    SIZES,
    st.sampled_from([1, 3, 8, 16, 17, 64]),
)
@settings(max_examples=25, deadline=None)
def test_triton_equals_the_definition(lora, backend, n, m, in_features, out_features, r) -> None:
    tensors = lora.inputs((n, m), in_features, out_features, r)
    got = lora.run(lora_linear, tensors, backend=backend)
    lora.assert_close(got, tensors, naive_lora_linear, TOLERANCE)


@triton_only
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("sizes", [(2, 37, 727, 127, 128), (1, 130, 37, 300, 33)])
def test_awkward_sizes_and_the_largest_rank(lora, backend, sizes) -> None:
    n, m, in_features, out_features, r = sizes
    tensors = lora.inputs((n, m), in_features, out_features, r)
    got = lora.run(lora_linear, tensors, backend=backend)
    lora.assert_close(got, tensors, naive_lora_linear, TOLERANCE)


@triton_only
@pytest.mark.parametrize("backend", KERNELS)
def test_triton_writes_every_entry_of_its_outputs(lora, backend, poisoned) -> None:
    tensors = lora.inputs((2, 35), 37, 70, 5)
    got = lora.run(lora_linear, tensors, backend=backend)
    assert all(bool(value.isfinite().all()) for value in got.values())
    lora.assert_close(got, tensors, naive_lora_linear, TOLERANCE)


@triton_only
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("sizes", [(2, 21, 65, 37, 8), (3, 64, 127, 130, 16), (1, 7, 37, 33, 1)])
def test_triton_in_float16_is_as_close_as_torch(lora, backend, sizes) -> None:
    n, m, in_features, out_features, r = sizes
    tensors = lora.inputs((n, m), in_features, out_features, r, dtype=torch.float16)
    ours, torchs = (lora.run(lora_linear, tensors, backend=name) for name in (backend, "torch"))
    lora.assert_as_close_as(ours, torchs, tensors, naive_lora_linear, 2)
    assert ours["lora_A"].dtype == ours["lora_B"].dtype == torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_run_gives_the_same_bits(lora, backend) -> None:
    tensors = lora.inputs((3, 19), 65, 33, 6)
    first, second = (lora.run(lora_linear, tensors, backend=backend) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_and_expanded_tensors_are_honoured(lora, backend) -> None:
    tensors = lora.inputs((3, 5), 20, 12, 4)
    tensors["lora_A"] = tensors["lora_A"][:1].expand(3, -1, -1)
    tensors["lora_B"] = tensors["lora_B"].mT.contiguous().mT
    tensors["x"] = tensors["x"].mT.contiguous().mT
    got = lora_linear(**tensors, backend=backend)
    torch.testing.assert_close(got, naive_lora_linear(**tensors), atol=1e-5, rtol=1e-5)
    # All rows of an adapter are one row in memory.
    tensors["x"] = tensors["x"][:, :1].expand(-1, 5, -1)
    got = lora_linear(**tensors, backend=backend)
    torch.testing.assert_close(got, naive_lora_linear(**tensors), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_factors_may_be_views_of_one_flat_tensor(lora, backend) -> None:
    tensors = lora.inputs((2, 9), 20, 12, 4)
    flat = torch.cat([tensors["lora_A"].flatten(1), tensors["lora_B"].flatten(1)], 1)
    flat.requires_grad_()
    A, B = flat[:, :80].view(2, 4, 20), flat[:, 80:].view(2, 12, 4)
    y = lora_linear(**{**tensors, "lora_A": A, "lora_B": B}, backend=backend)
    (gradient,) = torch.autograd.grad(y.square().sum(), flat)
    y = naive_lora_linear(**{**tensors, "lora_A": A, "lora_B": B})
    (expected,) = torch.autograd.grad(y.square().sum(), flat)
    torch.testing.assert_close(gradient, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_of_any_stride_is_honoured(lora, backend) -> None:
    tensors = lora.inputs((2, 9), 20, 12, 4)
    for bias in (tensors["bias"][:1].expand(12), tensors["bias"].repeat_interleave(2)[::2]):
        got = lora_linear(**{**tensors, "bias": bias}, backend=backend)
        expected = naive_lora_linear(**{**tensors, "bias": bias})
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(lora, backend) -> None:
    tensors = lora.inputs((2, 9), 20, 12, 4)
    plain = lora.run(lora_linear, tensors, backend=backend)

    def under_autocast(**given):
        with torch.autocast(lora.device, dtype=torch.bfloat16):
            return lora_linear(**given, backend=backend)

    got = lora.run(under_autocast, tensors)
    assert all(torch.equal(got[name], plain[name]) for name in plain)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_beyond_float16_stay_finite(lora, backend) -> None:
    half = {"dtype": torch.float16, "device": lora.device}
    x, weight = torch.full((1, 2048, 16), 8.0, **half), torch.zeros(8, 16, **half)
    A = torch.full((1, 4, 16), 0.1, device=lora.device)
    B = torch.ones(1, 8, 4, device=lora.device).requires_grad_()
    y = lora_linear(x, weight, A, B, torch.tensor([0.01], device=lora.device), backend=backend)
    y.backward(torch.full_like(y, 4.0))
    # 2048 rows of 4 * 0.01 * (16 * 8 * 0.1), the scaling last: 104,858 would not fit in float16.
    torch.testing.assert_close(B.grad, torch.full_like(B, 1048.6), atol=0, rtol=2e-3)
    large = torch.tensor([1e5], device=lora.device)
    y = lora_linear(1e-3 * x, weight, 1e-2 * A, 1e-2 * B.detach(), large, backend=backend)
    torch.testing.assert_close(y.float(), torch.full_like(y, 0.512).float(), atol=0, rtol=1e-2)


def test_forward_mode_is_refused_and_never_zero(lora) -> None:
    tensors = lora.inputs((2, 3), 5, 4, 2)
    A = tensors.pop("lora_A")
    with pytest.raises(ValueError, match="reverse-mode"):
        torch.func.jvp(lambda a: lora_linear(lora_A=a, **tensors), (A,), (A,))
    with forward_ad.dual_level(), pytest.raises(ValueError, match="reverse-mode"):
        lora_linear(lora_A=forward_ad.make_dual(A, A), **tensors)
    with forward_ad.dual_level():
        assert lora_linear(lora_A=A, **tensors).shape == (2, 3, 4)


def test_an_unfrozen_weight_serves_where_no_gradient_is_taken(lora) -> None:
    tensors = lora.inputs((2, 3), 5, 4, 2)
    tensors["weight"].requires_grad_()
    with torch.no_grad():
        assert lora_linear(**tensors).shape == (2, 3, 4)


def test_bfloat16_is_as_close_as_plain_torch_in_bfloat16(lora) -> None:
    tensors = lora.inputs((2, 33), 130, 65, 8, dtype=torch.bfloat16)

    def plain(x, weight, lora_A, lora_B, scaling, bias):
        u = x @ lora_A.to(x.dtype).mT
        update = (u * scaling.to(x.dtype)[:, None, None]) @ lora_B.to(x.dtype).mT
        return x @ weight.T + bias + update

    ours, plains = lora.run(lora_linear, tensors), lora.run(plain, tensors)
    lora.assert_as_close_as(ours, plains, tensors, naive_lora_linear, 1.5)
    assert ours["lora_A"].dtype == ours["scaling"].dtype == torch.float32
    assert ours["y"].dtype == ours["x"].dtype == torch.bfloat16


def test_gradcheck_in_float64(lora) -> None:
    tensors = lora.inputs((2, 3), 5, 4, 2, dtype=torch.float64)
    wanted = ("x", "lora_A", "lora_B", "scaling", "bias")
    leaves = [t.requires_grad_(name in wanted) for name, t in tensors.items()]
    for function in (naive_lora_linear, lora_linear):
        assert torch.autograd.gradcheck(function, leaves)


def test_only_what_is_asked_for_gets_a_gradient(lora) -> None:
    tensors = lora.inputs((2, 3), 5, 4, 2)
    B = tensors["lora_B"].requires_grad_()
    lora_linear(**tensors).sum().backward()
    assert B.grad is not None
    assert all(t.grad is None for name, t in tensors.items() if name != "lora_B")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.ones(3, 5)}, "x: expected .n, m, in."),
        ({"x": torch.ones(2, 3, 6)}, "x: expected 5 features"),
        ({"lora_A": torch.ones(1, 2, 5)}, "lora_A: expected shape .2, 2, 5., got .1, 2, 5."),
        ({"lora_B": torch.ones(2, 5, 2)}, "lora_B: expected shape"),
        ({"scaling": torch.ones(3)}, "scaling: expected shape"),
        ({"bias": torch.ones(5)}, "bias: expected shape"),
        ({"weight": torch.ones(4, 5, dtype=torch.bfloat16)}, "weight: expected torch.float32"),
        ({"weight": torch.ones(4, 5, requires_grad=True)}, "frozen weight"),
        ({"bias": torch.ones(4).half()}, "bias: expected torch.float32 as x"),
        ({"lora_A": torch.ones(2, 2, 5, device="meta")}, "lora_A: expected device cpu as x"),
        ({"weight": torch.ones(4, 5, device="meta")}, "weight: expected device cpu as x"),
        ({"scaling": torch.ones(2, dtype=torch.int64)}, "scaling: expected a floating-point"),
        ({"scaling": 2.0}, "scaling: expected a dense tensor, got float"),
        ({"x": [[1.0]]}, "x: expected a dense tensor, got list"),
        ({"lora_A": torch.ones(2, 2, 5).to_sparse()}, "lora_A: expected a dense tensor"),
        ({"x": torch.ones(2, 3, 0), "weight": torch.ones(4, 0)}, "neither 0"),
        ({"weight": torch.ones(0, 5)}, "neither 0"),
        ({"lora_A": torch.ones(2, 0, 5)}, "rank of at least 1"),
        ({"x": torch.ones(2, 3, 5).int()}, "x: expected one of"),
    ],
)
def test_bad_arguments_are_named(lora, change, words) -> None:
    tensors = {k: v.cpu() for k, v in lora.inputs((2, 3), 5, 4, 2).items()}
    with pytest.raises(ValueError, match=words):
        lora_linear(**{**tensors, **change}, backend="torch")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@triton_only
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("r", [1, 16, 64, 128])
def test_triton_on_a_gpu_is_as_close_as_torch(lora, dtype, backend, r) -> None:
    tensors = lora.inputs((4, 200), 896, 727, r, dtype=dtype)
    ours, torchs = (lora.run(lora_linear, tensors, backend=name) for name in (backend, "torch"))
    lora.assert_as_close_as(ours, torchs, tensors, naive_lora_linear, 2)
    again = lora.run(lora_linear, tensors, backend=backend)
    assert all(torch.equal(ours[name], again[name]) for name in ours)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@triton_only
@pytest.mark.parametrize("backend", KERNELS)
def test_more_than_two_to_the_31_entries(backend) -> None:
    n, m, width, r = 2, 80_000, 16_384, 4  # 2.6e9 entries of x, 5 GiB in bfloat16
    x = torch.randn(n, m, width, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(16, width, device="cuda", dtype=torch.bfloat16) / width**0.5
    A = torch.randn(n, r, width, device="cuda") / width**0.5
    B = torch.randn(n, 16, r, device="cuda").requires_grad_()
    y = lora_linear(x, weight, A.requires_grad_(), B, torch.ones(n, device="cuda"), backend=backend)
    y[-1, -64:].float().sum().backward()
    last = x[-1, -64:]
    expected = last @ weight.T + (last @ A[-1].bfloat16().T) @ B[-1].bfloat16().T
    torch.testing.assert_close(y[-1, -64:], expected, atol=5e-2, rtol=5e-2)
    expected = B[-1].detach().sum(0)[:, None] * last.float().sum(0)
    torch.testing.assert_close(A.grad[-1], expected, atol=0.5, rtol=5e-2)
