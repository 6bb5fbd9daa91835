"""What torch asks of an op: fake tensors, tracing, recomputation, and a clear word on the rest."""

import shutil
from itertools import product

import pytest
import torch
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from llgbm.lora_kernels import (
    Segments,
    lora_linear,
    lora_linear_grouped,
    lora_linear_ragged,
    torch_backend,
)
from llgbm.lora_kernels import custom_ops as ops
from llgbm.lora_kernels.backends import has_triton
from llgbm.lora_kernels.eager import EagerLoRA

BACKENDS = ["torch"] + (["triton", "triton_fused"] if has_triton() else [])
WANTED = ("x", "lora_A", "lora_B", "scaling", "bias")


def arguments(lora, backend: str, ragged: bool, groups: int = 2):
    segments = Segments.of([0, 4, 4, 12], [2, 3, 1], lora.device) if ragged else None
    made = [lora.inputs(12, 10, 6 + g, 3, n=3, seed=g) for g in range(groups)]
    x = made[0]["x"].requires_grad_()
    lists = {k: [m[k] for m in made] for k in ("weight", "lora_A", "lora_B", "bias")}
    for key in ("lora_A", "lora_B", "bias"):
        lists[key] = [t.requires_grad_() for t in lists[key]]
    sharing = (None, None, 4)
    if segments is not None:
        sharing = (segments.offsets, segments.ranks, segments.longest)
    scaling = made[0]["scaling"].requires_grad_()
    return (
        x,
        lists["weight"],
        lists["lora_A"],
        lists["lora_B"],
        scaling,
        lists["bias"],
        *sharing,
        backend,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ragged", [False, True])
def test_opcheck_of_the_forward_with_its_gradients(lora, backend, ragged) -> None:
    opcheck(ops.lora_forward, arguments(lora, backend, ragged))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("needs", list(product([False, True], repeat=4)))
def test_opcheck_of_the_backward_whatever_is_wanted(lora, backend, needs) -> None:
    x, weights, lora_A, lora_B, scaling, *_ = arguments(lora, backend, ragged=False)
    x, scaling = x.detach(), scaling.detach()
    lora_A, lora_B = ([t.detach() for t in listed] for listed in (lora_A, lora_B))
    dys, u = [x.new_ones(12, len(weight)) for weight in weights], x.new_ones(12, 6)
    given = (dys, x, u, weights, lora_A, lora_B, scaling, None, None, 4, backend, *needs)
    opcheck(ops.lora_backward, given, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_function_is_one_graph_with_the_same_results(lora, backend) -> None:
    tensors = lora.inputs((3, 8), 10, 6, 3)

    def function(x, weight, lora_A, lora_B, scaling, bias):
        first = lora_linear(x, weight, lora_A, lora_B, scaling, bias, backend=backend)
        q, k = lora_linear_grouped(
            x, [weight, weight], [lora_A] * 2, [lora_B] * 2, scaling, backend=backend
        )
        return first.relu() + q * k

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    eager, traced = lora.run(function, tensors), lora.run(compiled, tensors)
    for name, value in eager.items():
        torch.testing.assert_close(traced[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_compiles_one_graph_with_the_gradients_of_eager_calls(lora) -> None:
    tensors = lora.inputs((3, 8), 10, 6, 3)

    def function(x, weight, lora_A, lora_B, scaling, bias):
        return lora_linear(x, weight, lora_A, lora_B, scaling, bias, backend="torch").relu()

    compiled = torch.compile(function, fullgraph=True)
    eager, traced = lora.run(function, tensors), lora.run(compiled, tensors)
    for name, value in eager.items():
        torch.testing.assert_close(traced[name], value, atol=1e-5, rtol=1e-5)


def test_ragged_rows_compile_with_segments_made_outside(lora) -> None:
    tensors = lora.inputs(12, 10, 6, 3, n=3)
    segments = Segments.of([0, 4, 4, 12], device=lora.device)

    def function(**given):
        return lora_linear_ragged(**given, offsets=segments) * 2

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    eager, traced = lora.run(function, tensors), lora.run(compiled, tensors)
    for name, value in eager.items():
        torch.testing.assert_close(traced[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpointing_gives_the_same_bits(lora, backend) -> None:
    tensors = lora.inputs((3, 8), 10, 6, 3)

    def function(**given):
        return lora_linear(**given, backend=backend).tanh()

    def recomputed(**given):
        return checkpoint(lambda: function(**given), use_reentrant=False)

    plain, again = lora.run(function, tensors), lora.run(recomputed, tensors)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ragged", [False, True])
def test_the_op_and_the_eager_call_give_the_same_bits(lora, backend, ragged) -> None:
    x, weights, lora_A, lora_B, scaling, biases, *sharing, name = arguments(lora, backend, ragged)
    leaves = [x, scaling, *lora_A, *lora_B, *biases]
    by_op = ops.lora_forward(x, weights, lora_A, lora_B, scaling, biases, *sharing, name)[1:]
    tensors = (*weights, *lora_A, *lora_B, *biases)
    eager = EagerLoRA.apply(2, sharing[2], name, *sharing[:2], scaling, x, *tensors)
    results = []
    for outputs in (by_op, eager):
        total = sum((y * torch.linspace(-1, 2, y.shape[1], device=x.device)).sum() for y in outputs)
        results.append([*(y.detach() for y in outputs), *torch.autograd.grad(total, leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_no_gradient_of_x_is_computed_where_none_is_wanted(lora, monkeypatch) -> None:
    called = []
    real = torch_backend.input_gradient

    def counted(*arguments):
        called.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(torch_backend, "input_gradient", counted)
    tensors = lora.inputs((3, 8), 10, 6, 3)
    tensors["lora_A"].requires_grad_()
    lora_linear(**tensors, backend="torch").sum().backward()
    assert not called
    tensors["x"].requires_grad_()
    lora_linear(**tensors, backend="torch").sum().backward()
    assert called


@pytest.mark.parametrize("wanted", WANTED)
def test_a_second_derivative_is_refused_in_words(lora, wanted) -> None:
    tensors = lora.inputs((2, 4), 5, 6, 3)
    leaf = tensors[wanted].requires_grad_()
    tensors["lora_B"].requires_grad_()
    (first,) = torch.autograd.grad(lora_linear(**tensors).square().sum(), leaf, create_graph=True)
    if wanted == "bias":
        # A sum of dy: no product of ours stands between it and its own derivative.
        return
    with pytest.raises(ValueError, match="double backward"):
        first.square().sum().backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cuda_graph_replays_forward_and_backward(lora, backend) -> None:
    tensors = lora.inputs((4, 64), 256, 192, 16, dtype=torch.bfloat16)
    leaves = {name: t.detach().requires_grad_(name in WANTED) for name, t in tensors.items()}
    wanted = [leaves[name] for name in WANTED]

    def step():
        y = lora_linear(**leaves, backend=backend)
        return [y, *torch.autograd.grad(y.float().square().sum(), wanted)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    with torch.no_grad():
        leaves["lora_A"].mul_(-2)
    expected = step()
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", BACKENDS)
def test_inductor_compiles_around_the_op_on_a_gpu(lora, backend) -> None:
    tensors = lora.inputs((3, 64), 128, 96, 8)

    def function(**given):
        return lora_linear(**given, backend=backend).relu()

    compiled = torch.compile(function, fullgraph=True)
    eager, traced = lora.run(function, tensors), lora.run(compiled, tensors)
    for name, value in eager.items():
        torch.testing.assert_close(traced[name], value, atol=1e-4, rtol=1e-4)
