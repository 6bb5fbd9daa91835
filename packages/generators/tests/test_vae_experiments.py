"""VAE experiments on a tiny model: what they train, measure, write and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, SettingError
from llgbm.generators.cli import CONSOLE
from llgbm.generators.experiments.presets import ExperimentPreset
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.vae.experiments.references import (
    nearest_teachers,
    task_means,
    update_gram,
)
from llgbm.generators.vae.experiments.results import VAEResults
from llgbm.generators.vae.experiments.run import VAEExperimentConfig, run_vae_experiment
from llgbm.generators.vae.experiments.variants import VAE_EXPERIMENTS
from llgbm.generators.vae.train_config import VAETrainConfig


@pytest.fixture
def tiny_preset(set_tiny_preset) -> ExperimentPreset:
    """Sizes for the tiny model in place of the `demo` preset."""
    return set_tiny_preset(teachers_per_task=3, seeds=1)


def test_an_experiment_rebuilds_unseen_teachers_beside_simpler_answers(
    tiny_run, tiny_preset, tmp_path, capsys
) -> None:
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig(
        "vae-hierarchical", "demo", tmp_path, tmp_path / "out.json", base_model=str(tiny_run[1])
    )
    results = run_vae_experiment(config, model, tokenizer)
    assert VAEResults.read(tmp_path / "out.json") == results
    assert list(results.latents) == ["flat", "hierarchical"]
    assert results.latents["hierarchical"].numbers == 64 + 2 * 32
    assert 0 <= results.latents["flat"].active_units <= 1
    seen, family = results.rows["held_out"], results.rows["validation_family"]
    stand_ins = {"teacher", "mean adapter", "nearest teacher", "flat", "flat, written"}
    assert stand_ins <= set(family)
    assert "mean of the task's others" in seen
    assert "mean of the task's others" not in family  # nothing of that family was seen
    assert seen["teacher"].update_cosine.mean == pytest.approx(1, abs=1e-4)
    assert seen["teacher"].over_teacher.mean == 0
    assert seen["teacher"].update_cosine.n == 2  # one of each seen task
    assert family["teacher"].update_cosine.n == 3
    assert "flat, written" in capsys.readouterr().out
    (tmp_path / "out.json").write_text('{"schema": 1, "kind": "vae", "name": "x"}')
    with pytest.raises(RunError, match="expected a VAE experiment's results"):
        VAEResults.read(tmp_path / "out.json")


@pytest.mark.parametrize("name", sorted(VAE_EXPERIMENTS))
def test_every_variant_is_a_training_that_fits(name, tmp_path) -> None:
    base = VAETrainConfig(Path(tmp_path), steps=40)
    described = [change(base).settings() for change in VAE_EXPERIMENTS[name].variants.values()]
    assert all(one != two for i, one in enumerate(described) for two in described[:i])


def test_references_are_what_they_say(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 4)
    gram = update_gram(teachers, teachers)
    unit = gram.diagonal().sqrt()
    torch.testing.assert_close(
        (gram / (unit[:, None] * unit))[0, 1:], update_cosine(
            teachers.select([0, 0, 0]), teachers.select([1, 2, 3])
        ), atol=1e-5, rtol=1e-4,
    )  # fmt: skip
    near = teachers.select([2]).map(lambda factor: 1.1 * factor)
    path = tiny_spec.paths[0]
    assert torch.equal(nearest_teachers(teachers, near).lora_B[path], teachers.lora_B[path][2:3])
    means = task_means(teachers, ["a", "a", "b", "b"], ["b", "a"])
    updates = teachers.lora_B[path] @ teachers.lora_A[path]
    found = (means.lora_B[path] @ means.lora_A[path])[0]
    best = torch.linalg.svd(updates[2:].mean(0))
    r = tiny_spec.r
    torch.testing.assert_close(
        found, (best.U[:, :r] * best.S[:r]) @ best.Vh[:r], atol=1e-5, rtol=1e-3
    )
    assert task_means(teachers, ["a"] * 4, ["b"]) is None


def test_unknown_experiments_and_variants_are_named(capsys) -> None:
    with pytest.raises(SettingError, match="expected one of .*vae-gaussian.* got 'vae-x'"):
        VAEExperimentConfig("vae-x")
    command = ["experiment", "vae-prior", "--variants", "laplace"]
    assert CONSOLE.run(command) == 2
    assert "variants: expected among" in capsys.readouterr().err
