import math

import pytest
import torch

from llgbm.deltas.errors import AdapterError, ModelError, SettingError
from llgbm.deltas.fingerprint import adapter_fingerprint, base_fingerprint
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights


def test_a_spec_lists_modules_in_the_models_order(make_tiny_model) -> None:
    spec = LoRASpec.from_model(make_tiny_model(), 4, 8.0)
    assert len(spec.modules) == 14
    assert spec.paths[0] == "model.layers.0.self_attn.q_proj"
    assert (spec.modules[7].layer, spec.modules[7].name) == (1, "q_proj")
    assert spec.scaling == 2.0
    assert spec.parameters_per_adapter == sum(
        4 * (m.in_features + m.out_features) for m in spec.modules
    )


def test_unknown_targets_and_other_sizes_are_named(make_tiny_model) -> None:
    model = make_tiny_model()
    with pytest.raises(ModelError, match=r"got \['c_attn'\]"):
        LoRASpec.from_model(model, 4, 8.0, ["c_attn", "q_proj"])
    wrong = LoRASpec((ModuleShape("model.layers.0.self_attn.q_proj", 8, 8),), 2, 4.0)
    with pytest.raises(ModelError, match=r"expected \(8, 8\) as in the adapter, got \(32, 32\)"):
        wrong.check_model(model)


@pytest.mark.parametrize(("r", "alpha"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_impossible_specs_are_refused(r, alpha) -> None:
    with pytest.raises(ValueError, match="LoRASpec"):
        LoRASpec((ModuleShape("a", 1, 1),), r, alpha)


def test_weights_check_their_shapes_and_modules(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    path = weights.spec.paths[3]
    with pytest.raises(AdapterError, match=r"lora_B: expected shape \(2, 32, 4\), got"):
        LoRAWeights(weights.spec, weights.lora_A, {**weights.lora_B, path: torch.ones(2, 3, 4)})
    with pytest.raises(AdapterError, match="missing modules"):
        LoRAWeights(weights.spec, {}, weights.lora_B)


def test_no_adapters_are_refused(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    with pytest.raises(AdapterError, match="n: expected at least one adapter, got 0"):
        weights.select([])


@pytest.mark.parametrize("alpha", [0.0, math.inf, math.nan])
def test_alphas_that_are_no_finite_number_above_zero_are_refused(make_tiny_model, alpha) -> None:
    with pytest.raises(SettingError, match="lora_alpha: expected a finite number above 0"):
        LoRASpec.from_model(make_tiny_model(), 4, alpha)


def test_no_target_modules_are_refused_with_the_names_there_are(make_tiny_model) -> None:
    with pytest.raises(ModelError, match=r"expected names among \['down_proj', .*, got \[\]"):
        LoRASpec.from_model(make_tiny_model(), target_modules=())


def test_delta_norms_need_no_product(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    for place, path in enumerate(weights.spec.paths):
        update = weights.spec.scaling * weights.lora_B[path] @ weights.lora_A[path]
        expected = update.flatten(1).norm(dim=1)
        torch.testing.assert_close(weights.delta_norms()[:, place], expected, rtol=1e-4, atol=1e-6)


def test_shared_initialisation_is_shared_and_bounded_like_pefts(make_tiny_model) -> None:
    spec = LoRASpec.from_model(make_tiny_model(), 4, 8.0)
    shared = LoRAWeights.initial(spec, 3, torch.Generator().manual_seed(0))
    apart = LoRAWeights.initial(spec, 3, torch.Generator().manual_seed(0), shared_A=False)
    for module in spec.modules:
        A = shared.lora_A[module.path]
        assert torch.equal(A[0], A[2])
        assert float(A.abs().max()) <= module.in_features**-0.5
        assert not torch.equal(apart.lora_A[module.path][0], apart.lora_A[module.path][1])
        assert float(shared.lora_B[module.path].abs().max()) == 0


def test_fingerprints_see_every_bit(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    first = base_fingerprint(model)
    assert first == base_fingerprint(make_tiny_model())
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-6
    assert base_fingerprint(model) != first
    weights = make_weights(model, n=2)
    assert adapter_fingerprint(weights, 0) != adapter_fingerprint(weights, 1)
    assert adapter_fingerprint(weights, 1) == adapter_fingerprint(weights.select([1]))


def test_a_bfloat16_model_has_a_fingerprint(make_tiny_model) -> None:
    model = make_tiny_model().to(torch.bfloat16)
    assert base_fingerprint(model) != base_fingerprint(make_tiny_model())
