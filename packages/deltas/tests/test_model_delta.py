"""Fully fine-tuned models as teachers, in the library and beside adapters in a folder."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.commands.cached import read_cache
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.errors import ModelError
from llgbm.deltas.model_delta import compute_model_delta
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.tokenizers import register_tokenizer, tokenizer_of

PROBES = ProbeSet(("short", "a much longer probe text", "middle one"))


@pytest.fixture
def make_tuned(make_tiny_model):
    """Return a maker of base + ΔW of one adapter, as a model of its own."""

    def make(weights):
        tuned = make_tiny_model()
        with torch.no_grad():
            for path in weights.spec.paths:
                update = weights.lora_B[path][0] @ weights.lora_A[path][0]
                tuned.get_submodule(path).weight += weights.spec.scaling * update
        return tuned

    return make


@pytest.fixture
def store(saved_model, make_tiny_model, make_weights, make_tuned, tmp_path) -> Path:
    """Return a folder of two adapters and of the same two as full models."""
    weights = make_weights(make_tiny_model(), n=2)
    root = tmp_path / "store"
    for index in range(2):
        one = weights.select([index])
        save_adapter(one, root / f"lora{index}", str(saved_model))
        make_tuned(one).save_pretrained(root / f"full{index}", max_shard_size="30KB")
    tokenizer_of(make_tiny_model()).save_pretrained(root / "full1")
    return root


@pytest.fixture
def compute(saved_model, monkeypatch):
    """Return a call of `llgbm-deltas compute` in float32."""
    monkeypatch.setattr("llgbm.deltas.base_models.default_dtype", lambda device: torch.float32)

    def run(root: Path, *more: str) -> int:
        return CONSOLE.run(["compute", str(root), "--base-model", str(saved_model), *more])

    return run


@pytest.mark.parametrize(
    "spec",
    [DeltaSpec(), DeltaSpec((1, -1), "mean"), DeltaSpec((0, 1, -1), aggregation="per_probe")],
)
def test_a_model_with_an_adapter_merged_in_has_the_adapters_delta(
    spec, make_tiny_model, make_weights, make_tuned
) -> None:
    base = make_tiny_model()
    weights = make_weights(base, n=1)
    expected = compute_delta(base, weights, PROBES, spec)
    delta = compute_model_delta(base, make_tuned(weights), PROBES, spec)
    assert delta.shape == expected.shape
    assert delta.dtype == torch.float32
    # float32 rounding of W + ΔW against W x + ΔW x, values around 1.
    torch.testing.assert_close(delta, expected, atol=1e-5, rtol=0)
    assert expected.norm() > 0.1


def test_the_base_itself_has_no_delta(make_tiny_model) -> None:
    assert not compute_model_delta(make_tiny_model(), make_tiny_model(), PROBES).any()


def test_models_that_do_not_compare_are_told_apart(make_tiny_model) -> None:
    base = make_tiny_model()
    with pytest.raises(ModelError, match="model_type: expected llama as in the base, got qwen2"):
        compute_model_delta(base, make_tiny_model(kind="qwen2"), PROBES)
    with pytest.raises(ModelError, match=r"dtype: expected torch.float32 as in the base"):
        compute_model_delta(base, make_tiny_model().bfloat16(), PROBES)
    resized = make_tiny_model()
    resized.resize_token_embeddings(321)
    with pytest.raises(ModelError, match="vocab_size: expected 320 as in the base, got 321"):
        compute_model_delta(base, resized, PROBES)
    other = make_tiny_model()
    other.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(ModelError, match=r"up_proj.weight: expected shape \(64, 32\) as in the"):
        compute_model_delta(base, other, PROBES)
    eager = make_tiny_model()
    eager.config._attn_implementation = "eager"
    with pytest.raises(ModelError, match="attention: expected sdpa"):
        compute_model_delta(base, eager, PROBES)


def test_another_vocabulary_is_told(make_tiny_model) -> None:
    tuned = make_tiny_model()
    tokenizer = tokenizer_of(make_tiny_model())
    tokenizer.add_tokens(["<new>"])
    register_tokenizer(tuned, tokenizer)
    with pytest.raises(ModelError, match=r"expected the base's 258 tokens, got 259, .*'<new>'"):
        compute_model_delta(make_tiny_model(), tuned, PROBES)


def test_a_delta_that_is_not_finite_is_told(make_tiny_model) -> None:
    tuned = make_tiny_model()
    tuned.model.norm.weight[0] = torch.nan
    with pytest.raises(ModelError, match="delta: expected finite values, got 1 NaN or Inf"):
        compute_model_delta(make_tiny_model(), tuned, PROBES)


def test_a_folder_of_adapters_and_full_models_becomes_one_cache(store, compute, capsys) -> None:
    assert len(list((store / "full0").glob("model-*.safetensors"))) > 1
    assert compute(store) == 0
    assert "4 computed, 0 reused" in capsys.readouterr().out
    ids, deltas = read_cache(store / "deltas")
    assert ids == ["full0", "full1", "lora0", "lora1"]
    torch.testing.assert_close(deltas[:2], deltas[2:], atol=1e-5, rtol=0)
    assert (deltas[0] - deltas[1]).norm() > 0.1
    assert compute(store) == 0
    assert "0 computed, 4 reused" in capsys.readouterr().out


def test_a_changed_model_is_computed_again_with_the_bits_of_a_first_time(
    store, compute, capsys
) -> None:
    assert compute(store) == 0
    first = (store / "deltas" / "full1.npy").read_bytes()
    file = sorted((store / "full1").glob("model-*.safetensors"))[0]
    before = file.read_bytes()
    tensors = {name: 1.5 * tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    capsys.readouterr()
    assert compute(store) == 0
    assert "1 computed, 3 reused" in capsys.readouterr().out
    assert (store / "deltas" / "full1.npy").read_bytes() != first
    file.write_bytes(before)
    assert compute(store) == 0
    assert (store / "deltas" / "full1.npy").read_bytes() == first


def test_the_base_in_the_folder_is_no_teacher(store, compute, saved_model, capsys) -> None:
    assert compute(saved_model.parent, "--out", str(saved_model.parent / "all")) == 0
    assert "4 computed" in capsys.readouterr().out


def test_a_broken_model_is_named_and_the_others_are_stored(store, compute, capsys) -> None:
    file = sorted((store / "full0").glob("model-*.safetensors"))[0]
    bad = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(file).items()}
    save_file(bad, file, metadata={"format": "pt"})
    assert compute(store) == 0
    printed = capsys.readouterr().out
    assert "full0 - broken (NaN or Inf)" in " ".join(printed.split())
    assert "3 computed" in printed
    assert not (store / "deltas" / "full0.npy").exists()


def _cut(store: Path) -> None:
    file = sorted((store / "full0").glob("model-*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:100])


def _other_token(store: Path) -> None:
    file = store / "full1" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["a"] = 300
    file.write_text(json.dumps(content))


def _config(store: Path, **changes: object) -> None:
    file = store / "full0" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_cut, "full0: expected a model that can be loaded"),
        (lambda s: _config(s, hidden_size=64), "hidden_size: expected 32 as in the base, got 64"),
        (lambda s: _config(s, model_type="qwen2"), "model_type: expected llama as in the base"),
        (lambda s: (s / "full0" / "config.json").write_text("{"), "full0/config.json: line 1"),
        (lambda s: (s / "full0" / "adapter_config.json").write_text("{}"), "got both"),
        (_other_token, "full1: tokenizer: expected the base's 258 tokens, got 258, of which 1"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(store, compute, spoil, words, capsys) -> None:
    spoil(store)
    assert compute(store) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert len([line for line in said if line.startswith("error")]) == 1


def test_full_models_alone_need_the_base_named(store, capsys) -> None:
    for index in range(2):
        for file in (store / f"lora{index}").iterdir():
            file.unlink()
    assert CONSOLE.run(["compute", str(store)]) == 2
    assert "add --base-model" in capsys.readouterr().err


def test_a_cache_keeps_its_own_forward(store, compute, monkeypatch, capsys) -> None:
    """A cache of flash attention, or of an older version, takes no deltas of plain products."""
    monkeypatch.setattr("llgbm.deltas.short_attention.SHORT", 0)
    text = store.parent / "probes.txt"
    text.write_text("short\n")
    options = ("--probes", str(text))
    assert compute(store, *options) == 0
    manifest = store / "deltas" / "manifest.json"
    content = json.loads(manifest.read_text())
    assert content["forward"] == "cpu sdpa"
    monkeypatch.undo()
    monkeypatch.setattr("llgbm.deltas.base_models.default_dtype", lambda device: torch.float32)
    # Nothing to compute: nothing is mixed.
    assert compute(store, *options) == 0
    assert "0 computed, 4 reused" in capsys.readouterr().out
    (store / "deltas" / "lora0.npy").unlink()
    for stored in ("cpu sdpa", None):
        content["forward"] = stored
        manifest.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        assert compute(store, *options) == 2
        said = capsys.readouterr().err
        assert "forward of the stored deltas: expected cpu llgbm_plain, got" in said
        assert (stored or "one that is not named") in said
    assert compute(store, *options, "--rebuild") == 0
    assert json.loads(manifest.read_text())["forward"] == "cpu llgbm_plain"


def test_an_id_stands_for_one_thing(make_tiny_model, tmp_path) -> None:
    from llgbm.deltas.compute import compute_cache

    both = {"a": tmp_path}
    with pytest.raises(ValueError, match="a: expected one adapter or model of that id"):
        compute_cache(make_tiny_model(), both, tmp_path, PROBES, DeltaSpec(), models=both)
    assert not (tmp_path / "manifest.json").exists()
