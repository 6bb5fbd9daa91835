"""Adapters survive the round trip through PEFT, and bad files are named."""

import json
import logging
import math
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from llgbm.deltas.errors import AdapterError
from llgbm.deltas.fingerprint import adapter_fingerprint, base_fingerprint
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.peft_format import (
    check_base,
    load_adapter,
    load_adapter_tensors,
    read_adapter_info,
    save_adapter,
)
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def adapter(make_tiny_model, make_weights, tmp_path) -> Path:
    save_adapter(make_weights(make_tiny_model(), n=1), tmp_path / "a", "tiny", "f" * 64)
    return tmp_path / "a"


@given(r=st.integers(1, 9), layers=st.sampled_from([None, (1,), (0, 1)]), seed=st.integers(0, 9))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_round_trip_is_bitwise(make_tiny_model, make_weights, tmp_path, r, layers, seed):
    weights = make_weights(make_tiny_model(), n=1, r=r, seed=seed, layers=layers)
    save_adapter(weights, tmp_path / "a")
    loaded = load_adapter(tmp_path / "a")
    assert loaded.spec == weights.spec
    assert adapter_fingerprint(loaded) == adapter_fingerprint(weights)


@pytest.mark.parametrize("spec", [{}, {"layers": (1,)}, {"target_modules": ("q_proj", "up_proj")}])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_peft_loads_it_without_a_warning_and_computes_the_same(
    kind, spec, make_tiny_model, make_weights, tmp_path, caplog
) -> None:
    weights = make_weights(make_tiny_model(kind=kind), n=1, **spec)
    save_adapter(weights, tmp_path / "a", "tiny")
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        # PEFT reads a property that transformers has since renamed: nothing of the adapter's.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        wrapped = PeftModel.from_pretrained(make_tiny_model(kind=kind), str(tmp_path / "a"))
    assert not caplog.records
    loaded = [name for name, _ in wrapped.named_parameters() if "lora_" in name]
    assert len(loaded) == 2 * len(weights.spec.modules)
    model = make_tiny_model(kind=kind)
    with torch.no_grad(), FunctionalLoRA(model, weights.spec).applied(weights):
        ours = model(input_ids=IDS).logits
    torch.testing.assert_close(ours, wrapped(input_ids=IDS).logits, atol=1e-5, rtol=0)


def test_an_adapter_saved_by_peft_loads_with_the_models_own_order(make_tiny_model, tmp_path):
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    wrapped = get_peft_model(make_tiny_model(), config)
    wrapped.save_pretrained(tmp_path / "a")
    loaded = load_adapter(tmp_path / "a")
    assert loaded.spec == LoRASpec.from_model(make_tiny_model(), 4, 8.0)
    layer = dict(wrapped.named_modules())["base_model.model.model.layers.1.mlp.down_proj"]
    expected = layer.lora_B["default"].weight
    assert torch.equal(loaded.lora_B["model.layers.1.mlp.down_proj"][0], expected)


def test_the_base_is_recorded_and_another_one_refused(adapter, make_tiny_model) -> None:
    info = read_adapter_info(adapter)
    assert (info.base_model_name, info.base_fingerprint) == ("tiny", "f" * 64)
    check_base(adapter, "f" * 64)
    with pytest.raises(AdapterError, match="base model: expected"):
        check_base(adapter, base_fingerprint(make_tiny_model()))


def test_only_one_finite_adapter_is_written(make_tiny_model, make_weights, tmp_path) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    with pytest.raises(ValueError, match="n = 2"):
        save_adapter(weights, tmp_path / "a")
    broken = weights.select([0]).map(lambda factor: factor * float("nan"))
    with pytest.raises(AdapterError, match="NaN or Inf"):
        save_adapter(broken, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def edit_config(adapter: Path, **changes) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"peft_type": "IA3"},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 1]]},
    ],
)
def test_unsupported_features_are_named(adapter, change) -> None:
    edit_config(adapter, **change)
    with pytest.raises(AdapterError, match=next(iter(change))) as caught:
        load_adapter(adapter)
    assert "expected" in str(caught.value)
    assert str(adapter) in str(caught.value)


def edit_tensors(adapter: Path, edit) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


KEY = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop(KEY.format("A")), "lora_A: expected as lora_B is there"),
        (lambda t: t.pop(KEY.format("B")), "lora_B: expected as lora_A is there"),
        (lambda t: t.update({"foreign.weight": torch.ones(2)}), "foreign.weight"),
        (lambda t: t.update({KEY.format("A"): torch.ones(3, 32)}), "expected .4, in., got .3, 32."),
        (lambda t: t.update({KEY.format("B"): torch.ones(64)}), "got .64,."),
        (lambda t: t[KEY.format("A")].fill_(float("inf")), "NaN or Inf"),
        (lambda t: t.update({KEY.format("A"): torch.ones(4, 32).int()}), "expected float32"),
        (lambda t: t.clear(), "at least one module"),
        (
            lambda t: t.update({KEY.format("A.default"): torch.ones(4, 32)}),
            "up_proj.lora_A: expected one key, got also base_model",
        ),
    ],
)
def test_bad_tensors_are_named(adapter, edit, words) -> None:
    edit_tensors(adapter, edit)
    with pytest.raises(AdapterError, match=words):
        load_adapter(adapter)


def test_a_truncated_or_foreign_file_is_named(adapter) -> None:
    file = adapter / "adapter_model.safetensors"
    whole = file.read_bytes()
    for data in (whole[: len(whole) // 2], whole[:4], b"PK\x03\x04 not safetensors", b""):
        file.write_bytes(data)
        with pytest.raises(AdapterError, match="a whole safetensors file"):
            load_adapter(adapter)


def test_missing_parts_are_named(adapter, tmp_path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(AdapterError, match="got a pickle"):
        load_adapter(adapter)
    (adapter / "adapter_model.bin").unlink()
    with pytest.raises(AdapterError, match="adapter_model.safetensors: not found"):
        load_adapter(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match="adapter_config.json: line 1"):
        load_adapter(adapter)
    with pytest.raises(AdapterError, match="expected a folder, got nothing"):
        load_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 0),
        ("r", "8"),
        ("lora_alpha", None),
        ("lora_alpha", math.inf),
        ("lora_alpha", 10**400),
        ("r", math.inf),
    ],
)
def test_bad_numbers_are_named(adapter, key, value) -> None:
    edit_config(adapter, **{key: value})
    with pytest.raises(AdapterError, match=f"{key}: expected a finite number above 0"):
        load_adapter(adapter)


def test_a_base_that_is_no_name_is_named(adapter) -> None:
    edit_config(adapter, base_model_name_or_path=5)
    with pytest.raises(AdapterError, match="base_model_name_or_path: expected a name, got 5"):
        read_adapter_info(adapter)


@pytest.mark.parametrize("content", ["thesis.txt", None])
def test_what_is_no_adapter_is_not_replaced(make_tiny_model, make_weights, tmp_path, content):
    weights, path = make_weights(make_tiny_model(), n=1), tmp_path / "precious"
    file = path / content if content else path
    file.parent.mkdir(exist_ok=True)
    file.write_text("years of work")
    with pytest.raises(AdapterError, match="precious: expected an adapter to overwrite"):
        save_adapter(weights, path)
    assert file.read_text() == "years of work"


def test_an_empty_folder_is_filled(make_tiny_model, make_weights, tmp_path) -> None:
    save_adapter(make_weights(make_tiny_model(), n=1), tmp_path)
    assert load_adapter(tmp_path).n == 1


def test_rank_that_differs_from_the_tensors_is_named(adapter) -> None:
    edit_config(adapter, r=16)
    with pytest.raises(AdapterError, match="expected .16, in., got .4, 32."):
        load_adapter(adapter)


def test_adapters_of_different_specs_do_not_concatenate(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    pair = [make_weights(model, n=1, r=r) for r in (2, 4)]
    with pytest.raises(AdapterError, match="expected r=2"):
        LoRAWeights.concatenate(pair)


def test_tensors_alone_give_rank_by_shape_and_alpha_by_rule(adapter) -> None:
    whole, file = load_adapter(adapter), adapter / "adapter_model.safetensors"
    for alpha in (16.0, lambda r: 16.0 * r / whole.spec.r):
        alone = load_adapter_tensors(file, alpha)
        assert alone.spec == LoRASpec(whole.spec.modules, whole.spec.r, 16.0)
        for path in whole.spec.paths:
            assert torch.equal(alone.lora_A[path], whole.lora_A[path])
            assert torch.equal(alone.lora_B[path], whole.lora_B[path])


def test_tensors_of_two_ranks_are_named(adapter) -> None:
    def narrow(tensors) -> None:
        key = next(key for key in tensors if key.endswith("q_proj.lora_B.weight"))
        tensors[key] = tensors[key][:, :1].contiguous()

    edit_tensors(adapter, narrow)
    with pytest.raises(AdapterError, match=r"q_proj.lora_B: expected \(out, \d\), got"):
        load_adapter_tensors(adapter / "adapter_model.safetensors", 16.0)


def test_tensors_of_no_rank_are_named(adapter) -> None:
    def flatten(tensors) -> None:
        for key in tensors:
            tensors[key] = tensors[key].flatten()

    edit_tensors(adapter, flatten)
    with pytest.raises(AdapterError, match=r"lora_A: expected \(r, in\), got \(\d+,\)"):
        load_adapter_tensors(adapter / "adapter_model.safetensors", 16.0)
