"""VAE experiments on a tiny model: what they train, measure, write and refuse."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, SettingError
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.cli import CONSOLE
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.experiments.presets import PRESETS, ExperimentPreset
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.make_report import ReportConfig, make_report
from llgbm.generators.report.vae_plots import pictures_of
from llgbm.generators.vae.experiments import presets
from llgbm.generators.vae.experiments.codes import (
    code_task_information,
    codes_of_tasks,
    table_of_codes,
)
from llgbm.generators.vae.experiments.config import VAEExperimentConfig
from llgbm.generators.vae.experiments.layers import own_share
from llgbm.generators.vae.experiments.measure import latent_silhouette
from llgbm.generators.vae.experiments.presets import HELD_OUT_TEACHERS
from llgbm.generators.vae.experiments.references import (
    nearest_teachers,
    task_means,
    update_gram,
)
from llgbm.generators.vae.experiments.results import VAEResults
from llgbm.generators.vae.experiments.rivals import DELTA_ONLY, MULTI_TASK
from llgbm.generators.vae.experiments.run import run_vae_experiment
from llgbm.generators.vae.experiments.variants import VAE_EXPERIMENTS
from llgbm.generators.vae.experiments.ways import EVEN, LATENT, STRAIGHT, TEACHERS
from llgbm.generators.vae.train_config import VAETrainConfig


@pytest.fixture
def tiny_vae_preset(set_tiny_preset, monkeypatch) -> ExperimentPreset:
    """Sizes for the tiny model in place of the VAE experiments' `demo` preset."""
    tiny = set_tiny_preset(
        teachers_per_task=3, seeds=1, data="shared", examples_per_teacher=8, keep_every=1
    )
    monkeypatch.setitem(presets.VAE_PRESETS, "demo", tiny)
    return tiny


def test_an_experiment_rebuilds_unseen_teachers_beside_simpler_answers(
    tiny_run, tiny_vae_preset, tmp_path, capsys
) -> None:
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig(
        "vae-hierarchical", tmp_path, out=tmp_path / "out.json", base_model=str(tiny_run[1])
    )
    results = run_vae_experiment(config, model, tokenizer)
    assert VAEResults.read(tmp_path / "out.json") == results
    flat, hierarchical = results.latents["flat"], results.latents["hierarchical"]
    assert hierarchical.numbers == 64 + 2 * 32
    assert 0 <= flat.active_units <= 1
    assert len(flat.kl_by_unit) == 64
    assert sum(flat.kl_by_unit) == pytest.approx(flat.kl, rel=1e-4)
    assert flat.layers is None
    assert len(hierarchical.layers.update_cosine_lost) == 2
    assert 0 <= hierarchical.layers.own_share <= 1
    assert flat.codes_by_task == {}
    seen, family = results.rows["held_out"], results.rows["validation_family"]
    stand_ins = {"teacher", "mean adapter", "nearest teacher", "nearest teacher by text", "flat"}
    assert stand_ins | {"flat, written"} <= set(family)
    assert "mean of the task's others" in seen
    assert "mean of the task's others" not in family  # nothing of that family was seen
    assert seen["teacher"].update_cosine.mean == pytest.approx(1, abs=1e-4)
    assert seen["teacher"].over_teacher.mean == 0
    assert seen["teacher"].update_cosine.n == 2  # one of each seen task
    assert set(seen["teacher"].accuracy_by_task) == {"caps", "digits"}
    assert family["teacher"].update_cosine.n == 3
    assert [found.kind for found in results.maps] == ["PCA", "t-SNE"]
    assert Counter(results.maps[0].splits) == {
        "trained": 2, "held_out": 2, "validation_family": 3
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "flat, written" in shown
    assert "straight, teachers" in shown
    (tmp_path / "out.json").write_text('{"schema": 2, "kind": "vae", "name": "x"}')
    with pytest.raises(RunError, match="expected a VAE experiment's results, got required field"):
        VAEResults.read(tmp_path / "out.json")


def test_ways_end_at_the_rebuilt_teachers(tiny_run, tiny_vae_preset, tmp_path, monkeypatch) -> None:
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig(
        "vae-gaussian", tmp_path, variants=("no delta",), base_model=str(tiny_run[1])
    )
    results = run_vae_experiment(config, model, tokenizer)
    latent, straight, teachers = (results.ways[name] for name in (LATENT, STRAIGHT, TEACHERS))
    for end in (0, -1):
        assert latent.accuracy[end] == straight.accuracy[end]
        assert results.ways[EVEN].accuracy[end] == latent.accuracy[end]
        # The straight way's ends are merges, in another frame of factors: bfloat16 rounds apart.
        assert latent.end_cosine[end] == pytest.approx(straight.end_cosine[end], abs=0.01)
    assert teachers.start_cosine[0] == pytest.approx(1, abs=1e-3)
    assert teachers.end_cosine[-1] == pytest.approx(1, abs=1e-3)
    assert teachers.start_cosine == tuple(sorted(teachers.start_cosine, reverse=True))
    for way in results.ways.values():
        assert way.unevenness >= 1 - 1e-6
        assert way.detour >= 1 - 1e-6
    assert straight.over_straight.mean == 0
    # The same settings under another name are not trained again.
    folder = tmp_path / "generators" / results.latents["gaussian"].folder / "vae.safetensors"
    written = folder.stat().st_mtime_ns

    def twice(*args: object) -> None:
        raise AssertionError("ways were measured before")

    monkeypatch.setattr("llgbm.generators.vae.experiments.ways._accuracies", twice)
    again = run_vae_experiment(
        replace(config, name="vae-prior", variants=("mixture",)), model, tokenizer
    )
    assert again.latents["normal"].folder == results.latents["gaussian"].folder
    assert folder.stat().st_mtime_ns == written
    assert again.ways == results.ways
    # Another number of examples is another question.
    sizes = replace(config.chosen_sizes, examples=3)
    with pytest.raises(AssertionError, match="measured before"):
        run_vae_experiment(replace(config, sizes=sizes), model, tokenizer)


def test_what_was_scored_for_one_experiment_is_not_scored_for_the_next(
    tiny_run, tiny_vae_preset, tmp_path, monkeypatch
) -> None:
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig("vae-hierarchical", tmp_path, base_model=str(tiny_run[1]))
    scored: list[int] = []

    def counted(model, tokenizer, examples, weights=None):
        scored.append(0 if weights is None else weights.n)
        return score_choices(model, tokenizer, examples, weights)

    monkeypatch.setattr("llgbm.generators.vae.experiments.measure.score_choices", counted)
    first = run_vae_experiment(config, model, tokenizer)
    # Three tasks; of each the bare base, once.
    assert scored.count(0) == 3
    scored.clear()
    assert run_vae_experiment(config, model, tokenizer).rows == first.rows
    assert scored == []
    # Another VAE: it alone is scored, rebuilt and written, for two teachers and the family's three.
    other = replace(config, name="vae-prior", variants=("mixture",))
    again = run_vae_experiment(other, model, tokenizer).rows
    assert sum(scored) <= 2 * (2 + 3)
    for split, rows in again.items():
        assert rows["teacher"] == first.rows[split]["teacher"]
        assert rows["normal"] == first.rows[split]["flat"]
    # Another number of examples is another question.
    scored.clear()
    sizes = replace(config.chosen_sizes, examples=1)
    run_vae_experiment(replace(config, sizes=sizes), model, tokenizer)
    assert scored.count(0) == 3
    (tmp_path / "experiments" / "accuracies.json").write_text('{"questions": [1]}')
    with pytest.raises(RunError, match="expected accuracies by adapter"):
        run_vae_experiment(config, model, tokenizer)


def test_every_variants_ways_are_measured_where_ways_are_the_question(
    tiny_run, tiny_vae_preset, tmp_path
) -> None:
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig("vae-interpolation", tmp_path, base_model=str(tiny_run[1]))
    ways = run_vae_experiment(config, model, tokenizer).ways
    kinds = [LATENT, EVEN, STRAIGHT]
    assert list(ways) == [*kinds, TEACHERS, *(f"{kind}, plain" for kind in kinds)]
    # Midpoints are compared with the straight way between the same variant's rebuilt ends.
    assert ways[f"{STRAIGHT}, plain"].over_straight.mean == 0
    assert ways[f"{STRAIGHT}, plain"].start_cosine != ways[STRAIGHT].start_cosine


def test_codes_are_counted_by_task_and_generators_without_a_vae_stand_beside(
    tiny_run, tiny_vae_preset, tmp_path
) -> None:
    model, tokenizer = load_base_model(str(tiny_run[1]))
    config = VAEExperimentConfig(
        "vae-comparison", tmp_path, variants=("vq",), base_model=str(tiny_run[1])
    )
    results = run_vae_experiment(config, model, tokenizer)
    assert {MULTI_TASK, DELTA_ONLY} <= set(results.rows["held_out"])
    vq = results.latents["vq"]
    assert set(vq.codes_by_task) == {"caps", "digits"}
    used = {code for counts in vq.codes_by_task.values() for code in counts}
    assert len(used) / 128 == pytest.approx(vq.codes_used)
    assert -1 <= vq.code_task_information <= 1
    page = make_report(ReportConfig(tmp_path)).read_text()
    assert results.question in page
    for words in ("PCA of the latent centres", "Ways between", "Nats that", "have a code, &#39;vq"):
        assert words in page
    assert page.count("<svg") == len(pictures_of(results)) == 6


def test_codes_that_name_the_task_tell_all_and_codes_of_each_adapter_nothing() -> None:
    tasks = ["a", "a", "a", "b", "b", "b"]
    telling = torch.tensor([[5, 5, 5, 2, 2, 2]]).T
    assert code_task_information(telling, tasks) == pytest.approx(1)
    own = torch.arange(6)[:, None]
    assert code_task_information(own, tasks) == pytest.approx(0, abs=1e-6)
    both = torch.cat([telling, torch.zeros_like(telling)], 1)
    assert code_task_information(both, tasks) == pytest.approx(0.5)
    counted = codes_of_tasks(both, tasks)
    assert counted == {"a": {"5": 3, "0": 3}, "b": {"2": 3, "0": 3}}
    codes, table = table_of_codes(counted)
    assert codes == ["0", "5", "2"]
    assert table.tolist() == [[3, 3, 0], [3, 0, 3]]
    assert table_of_codes(counted, 1)[0] == ["0"]


def test_a_code_of_a_layer_that_its_decoder_alone_reads_changes_that_layer_alone(
    tiny_spec, make_teachers, monkeypatch
) -> None:
    teachers = make_teachers(tiny_spec, 3)
    layers = sorted({module.layer for module in tiny_spec.modules})
    changed = LoRAWeights(
        tiny_spec,
        teachers.lora_A,
        {
            module.path: (1 + (module.layer == layers[0])) * teachers.lora_B[module.path]
            for module in tiny_spec.modules
        },
    )
    assert own_share(teachers, changed, 0) == pytest.approx(1, abs=1e-5)
    assert own_share(teachers, changed, 1) == pytest.approx(0, abs=1e-5)
    assert own_share(teachers, teachers, 0) == 0


def test_a_preset_with_too_few_teachers_a_task_is_told() -> None:
    with pytest.raises(SettingError, match="expected more than 2 of each task.*got 2 disjoint"):
        VAEExperimentConfig("vae-prior", Path("x"), teachers="disjoint", sizes=PRESETS["demo"])


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_teachers_to_hold_out_of_both_kinds(name) -> None:
    for data in ("shared", "disjoint"):
        sizes = VAEExperimentConfig("vae-prior", Path("x"), name, teachers=data).chosen_sizes
        assert sizes.data == data
        assert sizes.teachers_per_task > HELD_OUT_TEACHERS


def test_variants_on_trajectories_need_checkpoints() -> None:
    with_them = VAEExperimentConfig("vae-augmentation", Path("x"))
    assert "trajectories" in with_them.experiment.variants
    without = VAEExperimentConfig("vae-augmentation", Path("x"), "small", teachers="disjoint")
    assert "trajectories" not in without.experiment.variants


@pytest.mark.parametrize("name", sorted(VAE_EXPERIMENTS))
def test_every_variant_is_a_training_that_fits(name, tmp_path) -> None:
    moved = VAE_EXPERIMENTS[name].transfers
    given = {"transfer_from": Path("vae"), "sources": Path("run")} if moved else {}
    base = VAETrainConfig(Path(tmp_path), steps=40, **given)
    described = [change(base).settings() for change in VAE_EXPERIMENTS[name].variants.values()]
    assert all(one != two for i, one in enumerate(described) for two in described[:i])


def test_more_latents_than_products_are_exact_for_have_a_silhouette() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = [f"task {index % 12}" for index in range(60)]
    centres = torch.randn(12, 128, generator=generator)
    around = torch.stack([centres[index % 12] for index in range(60)])
    mu = around + 0.01 * torch.randn(60, 128, generator=generator)
    found = latent_silhouette(mu, tasks)
    assert found is not None
    assert found > 0.9


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
        VAEExperimentConfig("vae-x", Path("x"))
    command = ["experiment", "vae-prior", "--variants", "laplace"]
    assert CONSOLE.run(command) == 2
    assert "variants: expected among" in capsys.readouterr().err
