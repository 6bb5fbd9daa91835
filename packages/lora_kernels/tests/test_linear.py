"""Both backends against the definition in float64: values and all gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llgbm.lora_kernels import lora_linear
from llgbm.lora_kernels.backends import has_triton
from llgbm.lora_kernels.naive import naive_lora_linear

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("x", "lora_A", "lora_B", "scaling", "bias")
SIZES = st.sampled_from([1, 2, 7, 16, 37, 64, 65, 127, 130])
triton_only = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")


def inputs(n, m, in_features, out_features, r, dtype=torch.float32, seed=0) -> dict[str, Tensor]:
    """Signed inputs of unit size; factors float32 whatever the activations."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = {
        "x": drawn(n, m, in_features),
        "weight": drawn(out_features, in_features) / in_features**0.5,
        "lora_A": drawn(n, r, in_features) / in_features**0.5,
        "lora_B": drawn(n, out_features, r),
        "scaling": drawn(n),
        "bias": drawn(out_features),
    }
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    kinds = {"x": dtype, "weight": dtype, "bias": dtype}
    return {name: t.to(DEVICE, kinds.get(name, wide)) for name, t in tensors.items()}


def run(function, tensors: dict[str, Tensor], **options) -> dict[str, Tensor]:
    """Output and gradients of a fixed signed scalar."""
    leaves = {name: t.detach().clone().requires_grad_(name in NAMES) for name, t in tensors.items()}
    y = function(**leaves, **options)
    weights = torch.linspace(-1, 3, y.numel(), dtype=torch.float64, device=y.device)
    if y.numel():
        (y.double() * weights.view(y.shape)).sum().backward()
    else:
        y.sum().backward()
    return {"y": y.detach(), **{name: leaves[name].grad for name in NAMES}}


def assert_close(got: dict[str, Tensor], tensors: dict[str, Tensor], tolerance: float) -> None:
    """Each result within `tolerance` of the float64 definition, relative to its norm."""
    expected = run(naive_lora_linear, {name: t.double() for name, t in tensors.items()})
    for name, value in expected.items():
        assert got[name].shape == value.shape
        error = (got[name].double() - value).norm() / (value.norm() + 1e-6)
        assert error <= tolerance, f"{name}: {error:.2e}"


@given(st.integers(1, 5), st.sampled_from([0, 1, 7, 37]), SIZES, SIZES, st.integers(1, 17))
@settings(max_examples=30, deadline=None)
def test_torch_equals_the_definition(n, m, in_features, out_features, r) -> None:
    tensors = inputs(n, m, in_features, out_features, r)
    # Float32 sums of at most 130 terms.
    assert_close(run(lora_linear, tensors, backend="torch"), tensors, 4e-6)


@triton_only
@pytest.mark.parametrize(
    ("n", "m", "in_features", "out_features", "r"),
    [
        (1, 1, 1, 1, 1),
        (3, 7, 37, 65, 5),
        (2, 37, 130, 16, 8),
        (2, 0, 7, 7, 2),
        (1, 33, 64, 127, 17),
    ],
)
def test_triton_equals_the_definition(n, m, in_features, out_features, r) -> None:
    tensors = inputs(n, m, in_features, out_features, r)
    assert_close(run(lora_linear, tensors, backend="triton"), tensors, 4e-6)


@triton_only
def test_triton_writes_every_entry_of_its_outputs(monkeypatch) -> None:
    empty = torch.empty

    def poisoned(*args, **kwargs) -> Tensor:
        made = empty(*args, **kwargs)
        return made.fill_(float("nan")) if made.is_floating_point() else made

    tensors = inputs(2, 35, 37, 70, 5)
    monkeypatch.setattr(torch, "empty", poisoned)
    got = run(lora_linear, tensors, backend="triton")
    monkeypatch.undo()
    assert_close(got, tensors, 4e-6)


@triton_only
def test_triton_in_float16_is_as_close_as_torch() -> None:
    tensors = inputs(2, 21, 65, 37, 8, torch.float16)
    expected = run(naive_lora_linear, {name: t.double() for name, t in tensors.items()})
    ours, torchs = (run(lora_linear, tensors, backend=b) for b in ("triton", "torch"))
    for name, value in expected.items():
        errors = [(r[name].double() - value).norm() / value.norm() for r in (ours, torchs)]
        assert errors[0] <= 2 * errors[1] + 1e-4, name


@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=triton_only)])
def test_a_second_run_gives_the_same_bits(backend) -> None:
    tensors = inputs(3, 19, 65, 33, 6)
    first, second = (run(lora_linear, tensors, backend=backend) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backend", ["torch", pytest.param("triton", marks=triton_only)])
def test_strided_and_expanded_factors_are_honoured(backend) -> None:
    tensors = inputs(3, 5, 20, 12, 4)
    shared = tensors["lora_A"][:1].expand(3, -1, -1)
    turned = tensors["lora_B"].mT.contiguous().mT
    rest = {k: v for k, v in tensors.items() if k not in ("lora_A", "lora_B")}
    got = lora_linear(lora_A=shared, lora_B=turned, backend=backend, **rest)
    expected = naive_lora_linear(lora_A=shared, lora_B=turned, **rest)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_bfloat16_is_as_close_as_plain_torch_in_bfloat16() -> None:
    tensors = inputs(2, 33, 130, 65, 8, torch.bfloat16)

    def plain(x, weight, lora_A, lora_B, scaling, bias):
        u = x @ lora_A.to(x.dtype).mT
        update = (u * scaling.to(x.dtype)[:, None, None]) @ lora_B.to(x.dtype).mT
        return x @ weight.T + bias + update

    expected = run(naive_lora_linear, {name: t.double() for name, t in tensors.items()})
    ours, plains = run(lora_linear, tensors), run(plain, tensors)
    for name, value in expected.items():
        errors = [(r[name].double() - value).norm() / value.norm() for r in (ours, plains)]
        assert errors[0] <= 1.5 * errors[1], name
    assert ours["lora_A"].dtype == ours["scaling"].dtype == torch.float32
    assert ours["y"].dtype == ours["x"].dtype == torch.bfloat16


def test_gradcheck_in_float64() -> None:
    tensors = inputs(2, 3, 5, 4, 2, torch.float64)
    leaves = [t.requires_grad_(name in NAMES) for name, t in tensors.items()]
    for function in (naive_lora_linear, lora_linear):
        assert torch.autograd.gradcheck(function, leaves)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    tensors = inputs(2, 3, 5, 4, 2)
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
        ({"lora_A": torch.ones(2, 0, 5)}, "rank of at least 1"),
        ({"x": torch.ones(2, 3, 5).int()}, "x: expected one of"),
    ],
)
def test_bad_arguments_are_named(change, words) -> None:
    tensors = {k: v.cpu() for k, v in inputs(2, 3, 5, 4, 2).items()}
    with pytest.raises(ValueError, match=words):
        lora_linear(**{**tensors, **change}, backend="torch")


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@triton_only
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_triton_on_a_gpu_is_as_close_as_torch(dtype) -> None:
    tensors = inputs(4, 200, 896, 727, 16, dtype)
    expected = run(naive_lora_linear, {name: t.double() for name, t in tensors.items()})
    ours, torchs = (run(lora_linear, tensors, backend=b) for b in ("triton", "torch"))
    for name, value in expected.items():
        errors = [(r[name].double() - value).norm() / value.norm() for r in (ours, torchs)]
        assert errors[0] <= 2 * errors[1] + 1e-4, name
