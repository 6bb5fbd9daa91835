"""`llgbm experiment vae-transfer` from one tiny base to another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, SettingError
from llgbm.generators.cli import CONSOLE
from llgbm.generators.runs import RunFolder
from llgbm.generators.vae.experiments import presets
from llgbm.generators.vae.experiments.config import VAEExperimentConfig
from llgbm.generators.vae.experiments.other_base import taught_as
from llgbm.generators.vae.experiments.results import VAEResults
from llgbm.generators.vae.experiments.run import run_vae_experiment
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.transfer import ADOPTED


@pytest.fixture
def source(tiny_run, set_tiny_preset, monkeypatch, tmp_path) -> tuple[Path, Path]:
    """Return the folder of a VAE on the first tiny base, and its run with three of each task."""
    tiny = set_tiny_preset(teachers_per_task=3, seeds=1, data="shared", examples_per_teacher=8)
    monkeypatch.setitem(presets.VAE_PRESETS, "demo", tiny)
    run = tmp_path / "source"
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig(
        "vae-hierarchical", run, variants=("flat",), base_model=str(tiny_run[1])
    )
    results = run_vae_experiment(config, model, tokenizer)
    return RunFolder(run).generator(results.latents["flat"].folder), run


@pytest.fixture
def other_base(tiny_run, tmp_path) -> Path:
    """Return the folder of a model of another kind, wider and deeper."""
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=320, hidden_size=48, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(tiny_run[1]).save_pretrained(tmp_path / "wide")
    return tmp_path / "wide"


def test_latents_of_one_base_are_measured_on_teachers_of_another(
    source, other_base, tmp_path, capsys
) -> None:
    vae, sources = source
    run, out = tmp_path / "there", tmp_path / "out.json"
    words = ["experiment", "vae-transfer", "--base-model", str(other_base), "--run", str(run)]
    given = ["--transfer-from", str(vae), "--sources", str(sources)]
    assert CONSOLE.run([*words, *given, "--out", str(out)]) == 0
    results = VAEResults.read(out)
    assert list(results.latents) == ["moved", "own"]
    assert "latents of a VAE of" in results.scale
    moved, own = (load_vae(RunFolder(run).generator(f.folder)) for f in results.latents.values())
    first = load_vae(vae)
    assert moved.source == first.spec
    for part in ADOPTED:
        here, there = getattr(moved, part).state_dict(), getattr(first, part).state_dict()
        assert all(torch.equal(here[name], there[name]) for name in there), part
    assert moved.spec == own.source == own.spec != moved.source
    rows = results.rows["held_out"]
    assert {"moved", "moved, written", "own", "own, written", "mean adapter"} < set(rows)
    assert rows["teacher"].update_cosine.n == 2
    assert [found.kind for found in results.maps] == ["PCA", "t-SNE"]
    other = [*words[:-1], str(tmp_path / "nothing"), "--transfer-from", str(tmp_path), *given[2:]]
    assert CONSOLE.run(other) == 2
    assert "config.json: not found" in capsys.readouterr().err
    assert not RunFolder(tmp_path / "nothing").manifest.exists()  # told before anything is taught
    assert CONSOLE.run([*words, *given, "--teachers", "shared"]) == 2
    assert "teachers: expected none beside sources" in capsys.readouterr().err
    assert CONSOLE.run([*words, *given, "--seed", "1"]) == 2
    assert "seed: expected 1 as the experiment has, got 0" in capsys.readouterr().err


def test_teachers_that_an_experiment_does_not_teach_are_told(source) -> None:
    file = RunFolder(source[1]).manifest
    content = json.loads(file.read_text())
    content["settings"]["lora_alpha"] = 3.0
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match="lora_alpha: expected .* as the experiment has, got 3.0"):
        taught_as(source[1], presets.VAE_PRESETS["demo"], 0)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("r", "8", "settings: .*"),
        ("data", "foo", "settings.data: expected"),
        ("teachers_per_task", 0, "teachers_per_task: expected a whole number of at least 1"),
        ("optim", {"steps": 4, "pace": 1}, "settings: TypeError.*pace|optim"),
    ],
)
def test_a_damaged_index_is_told(key, value, told, source) -> None:
    file = RunFolder(source[1]).manifest
    content = json.loads(file.read_text())
    content["settings"][key] = value
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=told):
        taught_as(source[1], presets.VAE_PRESETS["demo"], 0)


def test_a_moved_vae_and_its_teachers_are_given_together_where_they_are_asked_for(capsys) -> None:
    with pytest.raises(SettingError, match="expected both for vae-transfer, got None and None"):
        VAEExperimentConfig("vae-transfer", Path("x"))
    with pytest.raises(SettingError, match="expected neither for vae-prior"):
        VAEExperimentConfig("vae-prior", Path("x"), sources=Path("y"))
    assert CONSOLE.run(["experiment", "aggregation", "--sources", "y"]) == 2
    assert "expected neither for aggregation" in capsys.readouterr().err
