"""The batched forward equals PEFT and functional_call, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model

from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.weights import LoRAWeights

IDS = torch.randint(0, 256, (4, 7), generator=torch.Generator().manual_seed(1))


def scalar(states: torch.Tensor) -> torch.Tensor:
    # A sum of squares would be all but constant after the final norm.
    return (states * torch.linspace(-1, 2, states.shape[-1])).sum()


def wanting(weights: LoRAWeights) -> LoRAWeights:
    return weights.map(lambda factor: factor.clone().requires_grad_())


def batched_states(model, weights: LoRAWeights, ids: torch.Tensor = IDS) -> torch.Tensor:
    with FunctionalLoRA(model, weights.spec).applied(weights):
        output = model.get_decoder()(input_ids=ids.repeat(weights.n, 1), use_cache=False)
    return output.last_hidden_state.view(weights.n, *ids.shape, -1)


def peft_of(make: Callable, kind: str, weights: LoRAWeights):
    # A fresh base every time: wrapping changes it in place.
    spec = weights.spec
    config = LoraConfig(
        r=spec.r, lora_alpha=int(spec.lora_alpha), target_modules=list(spec.paths), lora_dropout=0.0
    )
    return get_peft_model(make(kind=kind), config)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_batched_forward_and_gradients_equal_peft_one_by_one(
    kind, make_tiny_model, make_weights
) -> None:
    model = make_tiny_model(kind=kind)
    weights = wanting(make_weights(model))
    states = batched_states(model, weights)
    scalar(states).backward()
    for i in range(weights.n):
        wrapped = peft_of(make_tiny_model, kind, weights)
        modules = dict(wrapped.named_modules())
        pairs = []
        for path in weights.spec.paths:
            layer = modules[f"base_model.model.{path}"]
            for name, factors in (("lora_A", weights.lora_A), ("lora_B", weights.lora_B)):
                parameter = getattr(layer, name)["default"].weight
                parameter.data.copy_(factors[path][i].detach())
                pairs.append((parameter, factors[path]))
        expected = wrapped.base_model.model.get_decoder()(input_ids=IDS, use_cache=False)
        scalar(expected.last_hidden_state).backward()
        torch.testing.assert_close(
            states[i].detach(), expected.last_hidden_state.detach(), atol=1e-5, rtol=0
        )
        for parameter, factor in pairs:
            error = (factor.grad[i] - parameter.grad).norm() / parameter.grad.norm()
            assert error < 1e-4


def test_batched_forward_and_gradients_equal_functional_call(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = wanting(make_weights(model))
    states = batched_states(model, weights)
    scalar(states).backward()
    wrapped = peft_of(make_tiny_model, "llama", weights)
    for i in range(weights.n):
        parameters = {
            f"base_model.model.{path}.{name}.default.weight": factors[path][i]
            .detach()
            .requires_grad_()
            for path in weights.spec.paths
            for name, factors in (("lora_A", weights.lora_A), ("lora_B", weights.lora_B))
        }
        output = torch.func.functional_call(
            wrapped, parameters, kwargs={"input_ids": IDS, "output_hidden_states": True}
        ).hidden_states[-1]
        torch.testing.assert_close(states[i].detach(), output.detach(), atol=1e-5, rtol=0)
        scalar(output).backward()
        for path in weights.spec.paths:
            for name, factors in (("lora_A", weights.lora_A), ("lora_B", weights.lora_B)):
                expected = parameters[f"base_model.model.{path}.{name}.default.weight"].grad
                error = (factors[path].grad[i] - expected).norm() / expected.norm()
                assert error < 1e-4


def test_unequal_rows_equal_each_adapter_alone(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = wanting(make_weights(model))
    rows = (1, 3, 0)
    with FunctionalLoRA(model, weights.spec).applied(weights, rows=rows):
        states = model.get_decoder()(input_ids=IDS, use_cache=False).last_hidden_state
    scalar(states).backward()
    for i, ids in ((0, IDS[:1]), (1, IDS[1:])):
        alone = wanting(weights.select([i]).detach())
        expected = batched_states(model, alone, ids)[0]
        scalar(expected).backward()
        place = slice(0, 1) if i == 0 else slice(1, 4)
        torch.testing.assert_close(states[place], expected, atol=1e-5, rtol=0)
        for path in weights.spec.paths:
            torch.testing.assert_close(
                weights.lora_B[path].grad[i], alone.lora_B[path].grad[0], atol=1e-4, rtol=1e-4
            )
    assert all(float(f.grad[2].abs().max()) == 0 for f in weights.lora_A.values())


def test_the_scaling_gets_its_gradient(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    lora = FunctionalLoRA(model, weights.spec)

    def total(scaling: torch.Tensor) -> torch.Tensor:
        with lora.applied(weights, scaling=scaling):
            ids = IDS[:1].repeat(3, 1)
            states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return states[:, -1].sum()

    scaling = torch.tensor([0.5, 2.0, 1.0], requires_grad=True)
    total(scaling).backward()
    for i in range(3):
        step = torch.zeros(3)
        step[i] = 1e-2
        with torch.no_grad():
            slope = (total(scaling + step) - total(scaling - step)) / 2e-2
        torch.testing.assert_close(scaling.grad[i], slope, atol=2e-2, rtol=2e-2)


def test_patches_are_undone_after_an_exception(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    before = model(input_ids=IDS).logits
    with (
        pytest.raises(RuntimeError, match="stop"),
        FunctionalLoRA(model, weights.spec).applied(weights),
    ):
        raise RuntimeError("stop")
    assert torch.equal(model(input_ids=IDS).logits, before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_nested_use_another_spec_and_wrong_batches_are_refused(
    make_tiny_model, make_weights
) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    lora = FunctionalLoRA(model, weights.spec)
    with (
        lora.applied(weights),
        pytest.raises(ValueError, match="already runs"),
        lora.applied(weights),
    ):
        pass
    with lora.applied(weights), pytest.raises(ValueError, match="multiple of 3"):
        model(input_ids=IDS)
    with lora.applied(weights, rows=(1, 1, 1)), pytest.raises(ValueError, match="expected 3"):
        model(input_ids=IDS)
    with pytest.raises(ValueError, match="spec"), lora.applied(make_weights(model, r=2)):
        pass


def test_zero_adapters_are_the_base(make_tiny_model) -> None:
    model = make_tiny_model()
    from llgbm.deltas.spec import LoRASpec

    zeros = LoRAWeights.zeros(LoRASpec.from_model(model, 2), 2)
    states = batched_states(model, zeros)
    base = model.get_decoder()(input_ids=IDS, use_cache=False).last_hidden_state
    torch.testing.assert_close(states[1], base, atol=1e-6, rtol=0)
