"""Layers on one x: as each alone, with one gradient of x."""

import pytest
import torch

from llgbm.lora_kernels import Segments, lora_linear, lora_linear_grouped, lora_linear_ragged
from llgbm.lora_kernels.backends import has_triton

BACKENDS = ["torch"] + (["triton", "triton_fused"] if has_triton() else [])
WIDTHS = (33, 7, 70)


def layers(lora, groups: int, r: int):
    made = [lora.inputs((3, 21), 37, out, r, seed=g) for g, out in enumerate(WIDTHS[:groups])]
    shared = {key: made[0][key] for key in ("x", "scaling")}
    lists = {key: [m[key] for m in made] for key in ("weight", "lora_A", "lora_B", "bias")}
    return shared, lists


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("groups", "r"), [(1, 5), (2, 16), (3, 3), (3, 40)])
def test_groups_equal_their_layers_alone(lora, backend, groups, r) -> None:
    shared, lists = layers(lora, groups, r)
    leaves = [shared["x"], shared["scaling"], *lists["lora_A"], *lists["lora_B"], *lists["bias"]]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    together = lora_linear_grouped(
        shared["x"],
        lists["weight"],
        lists["lora_A"],
        lists["lora_B"],
        shared["scaling"],
        lists["bias"],
        backend=backend,
    )
    alone = [
        lora_linear(
            shared["x"],
            lists["weight"][g],
            lists["lora_A"][g],
            lists["lora_B"][g],
            shared["scaling"],
            lists["bias"][g],
            backend=backend,
        )
        for g in range(groups)
    ]
    scalars = []
    for outputs in (together, alone):
        signs = [torch.linspace(-1, 2, y.numel(), device=y.device).view(y.shape) for y in outputs]
        scalars.append(sum((y * sign).sum() for y, sign in zip(outputs, signs, strict=True)))
    for mine, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)
    got, expected = (torch.autograd.grad(scalar, leaves) for scalar in scalars)
    for mine, other in zip(got, expected, strict=True):
        assert (mine - other).norm() <= 4e-6 * other.norm() + 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_output_that_is_not_used_has_no_part_in_the_gradients(lora, backend) -> None:
    shared, lists = layers(lora, 2, 4)
    A = [a.requires_grad_() for a in lists["lora_A"]]
    args = (lists["lora_B"], shared["scaling"])
    first, _ = lora_linear_grouped(shared["x"], lists["weight"], A, *args, backend=backend)
    got = torch.autograd.grad(first.sum(), A)
    assert got[0].abs().sum() > 0
    assert got[1].abs().sum() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_may_be_missing_in_one_layer(lora, backend) -> None:
    shared, lists = layers(lora, 2, 4)
    biases = [lists["bias"][0], None]
    got = lora_linear_grouped(
        shared["x"],
        lists["weight"],
        lists["lora_A"],
        lists["lora_B"],
        shared["scaling"],
        biases,
        backend=backend,
    )
    for g in range(2):
        expected = lora_linear(
            shared["x"],
            lists["weight"][g],
            lists["lora_A"][g],
            lists["lora_B"][g],
            shared["scaling"],
            biases[g],
        )
        torch.testing.assert_close(got[g], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ranks", [None, [2, 4, 3]])
def test_groups_with_segments(lora, backend, ranks) -> None:
    segments = Segments.of([0, 5, 5, 12], ranks, lora.device)
    made = [lora.inputs(12, 20, out, 4, n=3, seed=out) for out in (9, 33, 14)]
    x, scaling = made[0]["x"].requires_grad_(), made[0]["scaling"].requires_grad_()
    weights, As, Bs = ([m[key] for m in made] for key in ("weight", "lora_A", "lora_B"))
    leaves = [x, scaling, *(t.requires_grad_() for t in (*As, *Bs))]
    together = lora_linear_grouped(x, weights, As, Bs, scaling, segments=segments, backend=backend)
    alone = [
        lora_linear_ragged(x, weights[g], As[g], Bs[g], scaling, segments, backend=backend)
        for g in range(3)
    ]
    for mine, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)
    gradients = [
        torch.autograd.grad(sum((y * (g + 1)).sum() for g, y in enumerate(outputs)), leaves)
        for outputs in (together, alone)
    ]
    for mine, expected in zip(*gradients, strict=True):
        assert (mine - expected).norm() <= 4e-6 * expected.norm() + 1e-4


def test_counts_and_ranks_that_do_not_fit_are_refused(lora) -> None:
    shared, lists = layers(lora, 2, 4)
    x, scaling = shared["x"], shared["scaling"]
    weights, As, Bs = lists["weight"], lists["lora_A"], lists["lora_B"]
    with pytest.raises(ValueError, match="1 to 3 layers in each, got 2, 1, 2, 2"):
        lora_linear_grouped(x, weights, As[:1], Bs, scaling)
    with pytest.raises(ValueError, match="1 to 3 layers in each, got 4"):
        lora_linear_grouped(x, weights * 2, As * 2, Bs * 2, scaling)
    with pytest.raises(ValueError, match="1 to 3 layers in each, got 0"):
        lora_linear_grouped(x, [], [], [], scaling)
    with pytest.raises(ValueError, match="one rank, got .4, 3."):
        lora_linear_grouped(x, weights, [As[0], As[1][:, :3]], [Bs[0], Bs[1][..., :3]], scaling)
