"""Checkpointed layers give the same bits, though the patches are gone when the backward comes."""

import pytest
import torch

from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.layer_checkpointing import decoder_layers
from llgbm.deltas.spec import LoRASpec

IDS = torch.randint(0, 256, (6, 7), generator=torch.Generator().manual_seed(1))


def gradients(model, weights, checkpoint: bool, rows=None) -> list[torch.Tensor]:
    wanted = weights.map(lambda factor: factor.clone().requires_grad_())
    lora = FunctionalLoRA(model, weights.spec)
    with lora.applied(wanted, rows=rows, checkpoint=checkpoint):
        states = model.get_decoder()(input_ids=IDS, use_cache=False).last_hidden_state
    (states * torch.linspace(-1, 2, states.shape[-1])).sum().backward()
    factors = [*wanted.lora_A.values(), *wanted.lora_B.values()]
    return [states.detach(), *(factor.grad for factor in factors)]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("rows", [None, (1, 4, 1)])
def test_the_same_bits_as_without(kind, rows, make_tiny_model, make_weights) -> None:
    model = make_tiny_model(kind=kind)
    weights = make_weights(model)
    plain, again = (gradients(model, weights, kept, rows) for kept in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert not any("forward" in vars(module) for module in model.modules())


def test_less_is_kept(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model).map(lambda factor: factor.clone().requires_grad_())
    kept = {}
    for checkpoint in (False, True):
        seen: dict[int, int] = {}

        def pack(tensor, seen=seen):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            FunctionalLoRA(model, weights.spec).applied(weights, checkpoint=checkpoint),
        ):
            # Alive until counted, so that no address serves twice.
            states = model.get_decoder()(input_ids=IDS, use_cache=False).last_hidden_state
        assert states.requires_grad
        kept[checkpoint] = sum(seen.values())
    assert kept[True] < kept[False] / 2


def test_only_layers_with_adapters_and_above_are_checkpointed(make_tiny_model) -> None:
    model = make_tiny_model()
    spec = LoRASpec.from_model(model, 2, 4.0)
    assert decoder_layers(model, spec) == tuple(model.model.layers)
    upper = LoRASpec(tuple(m for m in spec.modules if m.layer == 1), 2, 4.0)
    assert decoder_layers(model, upper) == tuple(model.model.layers)[1:]
