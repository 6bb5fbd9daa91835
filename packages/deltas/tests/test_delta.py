"""Deltas equal a plain, unbatched computation and carry gradients."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta
from llgbm.deltas.errors import ModelError, SettingError
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.probes import ProbeSet, create_domain_probes, create_generic_probes
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.tokenizers import tokenizer_of
from llgbm.deltas.weights import LoRAWeights

PROBES = ProbeSet(("short", "a much longer probe text", "middle one"))


def plain_activation(model, probes: ProbeSet) -> torch.Tensor:
    """Per text, no padding, as Delta Activations does it."""
    rows = []
    for text in probes.texts:
        ids = torch.tensor([tokenizer_of(model)(text)["input_ids"][: probes.max_tokens]])
        output = model(input_ids=ids, output_hidden_states=True)
        rows.append(output.hidden_states[-1][:, -1, :].float()[0])
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_deltas_equal_the_plain_unbatched_computation(kind, make_tiny_model, make_weights) -> None:
    model = make_tiny_model(kind=kind)
    weights = make_weights(model)
    with torch.no_grad():
        base = plain_activation(model, PROBES)
        deltas = compute_delta(model, weights, PROBES)
        per_probe = compute_delta(model, weights, PROBES, DeltaSpec(aggregation="per_probe"))
        for i in range(weights.n):
            with FunctionalLoRA(model, weights.spec).applied(weights.select([i])):
                expected = plain_activation(model, PROBES) - base
            torch.testing.assert_close(deltas[i], expected.mean(0), atol=1e-4, rtol=0)
            torch.testing.assert_close(per_probe[i, :, 0], expected, atol=1e-4, rtol=0)
    assert deltas.shape == (3, 32)
    assert deltas.dtype == torch.float32


def test_deltas_of_the_real_model_equal_peft_unbatched() -> None:
    probes = ProbeSet(create_generic_probes().texts[:2])
    model, tokenizer = load_base_model("smollm2-135m", dtype=torch.float32, device="cpu")
    spec = LoRASpec.from_model(model, 4, 8.0, ("q_proj", "down_proj"))
    generator = torch.Generator().manual_seed(0)
    drawn = LoRAWeights.initial(spec, 2, generator, shared_A=False)
    lora_B = {p: 0.01 * torch.randn(f.shape, generator=generator) for p, f in drawn.lora_B.items()}
    weights = LoRAWeights(spec, drawn.lora_A, lora_B)
    with torch.no_grad():
        base = plain_activation(model, probes)
        deltas = compute_delta(model, weights, probes)
        config = LoraConfig(r=4, lora_alpha=8, target_modules=list(spec.paths))
        wrapped = get_peft_model(model, config).eval()
        modules = dict(wrapped.named_modules())
        for path in spec.paths:
            layer = modules[f"base_model.model.{path}"]
            layer.lora_A["default"].weight.copy_(weights.lora_A[path][1])
            layer.lora_B["default"].weight.copy_(weights.lora_B[path][1])
        rows = []
        for text in probes.texts:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            states = wrapped(input_ids=ids, output_hidden_states=True).hidden_states
            rows.append(states[-1][0, -1])
        expected = (torch.stack(rows) - base).mean(0)
    # Hidden states after the final norm are of size 10: float32 rounding over 30 layers.
    torch.testing.assert_close(deltas[1], expected, atol=1e-4, rtol=1e-4)
    assert expected.norm() > 0.1


def test_a_probes_delta_does_not_depend_on_its_batch(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    spec = DeltaSpec(aggregation="per_probe")
    with torch.no_grad():
        together = compute_delta(model, weights, PROBES, spec)
        for place, text in enumerate(PROBES.texts):
            alone = compute_delta(model, weights.select([1]), ProbeSet((text,)), spec)
            torch.testing.assert_close(together[1, place], alone[0, 0], atol=1e-5, rtol=0)


def test_gradients_reach_every_factor_and_values_do_not_change(
    make_tiny_model, make_weights
) -> None:
    model = make_tiny_model()
    weights = make_weights(model).map(lambda factor: factor.requires_grad_())
    delta = compute_delta(model, weights, PROBES)
    with torch.no_grad():
        torch.testing.assert_close(delta, compute_delta(model, weights, PROBES), atol=1e-6, rtol=0)
    delta.square().sum().backward()
    for factors in (weights.lora_A, weights.lora_B):
        assert all(float(factor.grad.abs().max()) > 0 for factor in factors.values())


def test_layers_pooling_and_aggregation_have_the_stated_shapes(
    make_tiny_model, make_weights
) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    with torch.no_grad():
        both = compute_delta(model, weights, PROBES, DeltaSpec((1, -1)))
        each = compute_delta(model, weights, PROBES, DeltaSpec((1, -1), "mean", "per_probe"))
        base = compute_base_activation(model, PROBES, DeltaSpec((1, -1), "mean", "per_probe"))
    assert both.shape == (3, 64)
    assert each.shape == (3, 3, 2, 32)
    assert base.shape == (3, 2, 32)


def test_mean_pooling_averages_real_tokens_only(make_tiny_model) -> None:
    model = make_tiny_model()
    with torch.no_grad():
        spec = DeltaSpec(pooling="mean", aggregation="per_probe")
        pooled = compute_base_activation(model, PROBES, spec)
        ids = torch.tensor([tokenizer_of(model)(PROBES.texts[0])["input_ids"]])
        states = model.get_decoder()(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(pooled[0, 0], states.mean(0), atol=1e-5, rtol=0)


def test_bad_specs_and_probes_are_named(make_tiny_model) -> None:
    with pytest.raises(ValueError, match="pooling"):
        DeltaSpec(pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one text"):
        ProbeSet(())
    with pytest.raises(ValueError, match="domain: expected one of"):
        create_domain_probes("cooking")
    from torch import nn

    with pytest.raises(ModelError, match="load_base_model"):
        compute_base_activation(nn.Linear(2, 2), PROBES)


def test_a_base_activation_of_another_shape_is_refused(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    words = r"base_activation: shape: expected \(32,\), got \(1,\)"
    with pytest.raises(SettingError, match=words):
        compute_delta(model, make_weights(model), PROBES, base_activation=torch.zeros(1))


def test_fingerprints_tell_probe_sets_apart() -> None:
    assert create_generic_probes().fingerprint == create_generic_probes().fingerprint
    swapped = ProbeSet(tuple(reversed(create_generic_probes().texts)))
    assert swapped.fingerprint != create_generic_probes().fingerprint
    assert len(create_generic_probes()) == 5
