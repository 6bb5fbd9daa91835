"""Layers below the first adapter run on one copy of the probes, with the same results."""

import pytest
import torch

from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.probes import TokenizedProbes
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights

IDS = torch.randint(0, 256, (4, 7), generator=torch.Generator().manual_seed(1))
PROBES = TokenizedProbes(IDS, torch.tensor([7, 5, 7, 3]), "test")


def upper(model, make_weights) -> LoRAWeights:
    """Adapters of the last layer alone."""
    full = make_weights(model)
    spec = full.spec
    kept = tuple(m for m in spec.modules if m.layer == 1)
    part = LoRASpec(kept, spec.r, spec.lora_alpha)
    weights = LoRAWeights(
        part,
        {m.path: full.lora_A[m.path] for m in kept},
        {m.path: full.lora_B[m.path] for m in kept},
    )
    return weights.map(lambda factor: factor.clone().requires_grad_())


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("layers", [(-1,), (0, 1, 2)])
@pytest.mark.parametrize("pooling", ["last_token", "mean"])
def test_deltas_equal_the_unshared_forward(
    kind, layers, pooling, make_tiny_model, make_weights
) -> None:
    model = make_tiny_model(kind=kind)
    weights = upper(model, make_weights)
    spec = DeltaSpec(layers, pooling, "per_probe")
    deltas = compute_delta(model, weights, PROBES, spec)
    for i in range(weights.n):
        # A single adapter shares with nobody.
        alone = compute_delta(model, weights.select([i]), PROBES, spec)[0]
        torch.testing.assert_close(deltas[i], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_equal_the_unshared_forward(checkpoint, make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = upper(model, make_weights)
    signs = torch.linspace(-1, 2, 32)
    (compute_delta(model, weights, PROBES, checkpoint=checkpoint) * signs).sum().backward()
    got = [factor.grad for factor in weights.lora_A.values()]
    plain = weights.map(lambda factor: factor.detach().clone().requires_grad_())
    with FunctionalLoRA(model, plain.spec).applied(plain):
        states = model.get_decoder()(input_ids=IDS.repeat(3, 1), use_cache=False)
    lengths = PROBES.lengths.repeat(3)
    last = states.last_hidden_state[torch.arange(12), lengths - 1].view(3, 4, -1).mean(1)
    (last * signs).sum().backward()
    for mine, factor in zip(got, plain.lora_A.values(), strict=True):
        assert (mine - factor.grad).norm() <= 1e-4 * factor.grad.norm()


def test_each_layer_sees_as_many_sequences_as_it_needs(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    seen = []
    handles = [
        layer.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
        for layer in model.model.layers
    ]
    compute_delta(model, upper(model, make_weights), PROBES)
    full = make_weights(model)
    compute_delta(model, full, PROBES)
    for handle in handles:
        handle.remove()
    # Base, then shared below the adapters; base, then all three copies.
    assert seen == [4, 4, 4, 12, 4, 4, 12, 12]


def test_hooks_are_removed_after_an_error(make_tiny_model, make_weights) -> None:
    from llgbm.deltas.shared_prefix import prefix_run_once

    model = make_tiny_model()
    spec = upper(model, make_weights).spec
    with pytest.raises(RuntimeError), prefix_run_once(model, spec, 3, 4) as once:
        assert once
        raise RuntimeError
    assert not any(module._forward_pre_hooks for module in model.modules())
