import os
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

# Without a GPU the kernels run in Triton's interpreter, which reads this when Triton is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WANTED = ("x", "lora_A", "lora_B", "scaling", "bias")


def inputs(rows, in_features, out_features, r, n=None, dtype=torch.float32, seed=0):
    """Signed inputs of unit size, factors float32 whatever the activations; rows: m, or M where
    the number of adapters n is given apart."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    flat = isinstance(rows, int)
    n = n if flat else rows[0]
    tensors = {
        "x": drawn(*((rows,) if flat else rows), in_features),
        "weight": drawn(out_features, in_features) / in_features**0.5,
        "lora_A": drawn(n, r, in_features) / in_features**0.5,
        "lora_B": drawn(n, out_features, r),
        "scaling": drawn(n),
        "bias": drawn(out_features),
    }
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    kinds = {"x": dtype, "weight": dtype, "bias": dtype}
    return {name: t.to(DEVICE, kinds.get(name, wide)) for name, t in tensors.items()}


def run(function, tensors, **options) -> dict[str, Tensor]:
    """Output and gradients of a fixed signed scalar."""
    leaves = {
        name: t.detach().clone().requires_grad_(name in WANTED) for name, t in tensors.items()
    }
    y = function(**leaves, **options)
    weights = torch.linspace(-1, 3, y.numel(), dtype=torch.float64, device=y.device)
    (y.double() * weights.view(y.shape)).sum().backward()
    return {"y": y.detach(), **{name: leaves[name].grad for name in WANTED}}


def sizes(tensors, expected, reference, options) -> dict[str, Tensor]:
    """What an error is measured against: the norm of the result; for y and x the norms of the
    base's and the adapters' parts, which may cancel; for the scaling, whose gradient is a sum of
    many signs, the bound that Cauchy and Schwarz give for it."""
    found = {name: value.norm() for name, value in expected.items()}
    wide = {name: t.double() for name, t in tensors.items()}
    base = run(reference, {**wide, "scaling": torch.zeros_like(wide["scaling"])}, **options)
    for name in ("y", "x"):
        found[name] = base[name].norm() + (expected[name] - base[name]).norm()
    y = expected["y"]
    dy = torch.linspace(-1, 3, y.numel(), dtype=torch.float64, device=y.device)
    A, B = tensors["lora_A"].double(), tensors["lora_B"].double()
    reach = (A.square().sum((1, 2)) * B.square().sum((1, 2))).sum().sqrt()
    found["scaling"] = dy.norm() * tensors["x"].double().norm() * reach
    return found


def assert_close(got, tensors, reference, tolerance, **options) -> None:
    """Each result within `tolerance` of the reference in float64."""
    expected = run(reference, {name: t.double() for name, t in tensors.items()}, **options)
    of = sizes(tensors, expected, reference, options)
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        error = (got[name].double() - value).norm()
        assert error <= tolerance * (of[name] + 1e-6), f"{name}: {error / of[name]:.2e}"


def assert_as_close_as(got, rival, tensors, reference, factor, **options) -> None:
    """Each result's error at most `factor` times the rival's, against the reference in float64."""
    expected = run(reference, {name: t.double() for name, t in tensors.items()}, **options)
    of = sizes(tensors, expected, reference, options)
    for name, value in expected.items():
        ours, theirs = ((r[name].double() - value).norm() / of[name] for r in (got, rival))
        # One result may be exact by luck: an eighth of a rounding step of float16 is allowed.
        assert ours <= factor * theirs + 2**-14, f"{name}: {ours:.2e}, rival {theirs:.2e}"


@pytest.fixture(scope="session")
def lora():
    """Helpers of the tests of layers."""
    return SimpleNamespace(
        inputs=inputs,
        run=run,
        assert_close=assert_close,
        assert_as_close_as=assert_as_close_as,
        device=DEVICE,
    )


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that torch hands out unwritten holds NaN."""
    empty, new_empty = torch.empty, Tensor.new_empty

    def fill(made: Tensor) -> Tensor:
        return made.fill_(float("nan")) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty", lambda *a, **k: fill(empty(*a, **k)))
    monkeypatch.setattr(Tensor, "new_empty", lambda *a, **k: fill(new_empty(*a, **k)))
