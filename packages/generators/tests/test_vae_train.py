"""`llgbm train-vae` and the latent tools, on the tiny run."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch

from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.metrics_log import read_metrics
from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.generators.cli import CONSOLE
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.runs import RunFolder
from llgbm.generators.vae.augment import interpolated, partial, with_noise
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.train import VAETrainer
from llgbm.generators.vae.train_config import VAETrainConfig

SMALL = (
    "--vae.latent-dim", "8", "--vae.delta-hidden", "16", "--steps", "6", "--batch-size", "2",
    "--validate-every", "3", "--save-every", "2", "--condition-texts", "1", "3",
)  # fmt: skip
AUGMENTED = ("--augment.interpolated", "2", "--augment.partial", "2", "--augment.noise", "0.05")


def train_vae(run, name: str, *more: str) -> int:
    return CONSOLE.run(["train-vae", "--run", str(run), "--name", name, *SMALL, *more])


def test_a_vae_is_trained_validated_and_read_back(run_copy, capsys) -> None:
    assert train_vae(run_copy, "vae", *AUGMENTED) == 0
    folder = RunFolder(run_copy).generator("vae")
    records = [r for r in read_metrics(folder / "metrics.jsonl") if r["split"] == "held_out"]
    assert [r["step"] for r in records] == [0, 3, 6]
    assert {"update_cosine", "delta_cosine", "written_cosine", "kl", "active_units"} <= set(
        records[-1]
    )
    assert 0 <= records[-1]["mutual_information"] <= 1.0  # two adapters: at most log 2
    vae = load_vae(folder)
    assert vae.layout.size == 8
    shown = capsys.readouterr().out
    assert f"parameters: {vae.parameter_count:,} (condition_network " in shown
    assert vae.metadata["training"]["hold_out"] == 1
    finished = json.loads((folder / "finished.json").read_text())
    assert finished["best"] == pytest.approx(max(r["update_cosine"] for r in records[1:]), abs=1e-5)
    # A generator beside it stays the run's generator.
    assert RunFolder(run_copy).generators == ["generator"]
    assert train_vae(run_copy, "vae", *AUGMENTED, "--lr", "0.01") == 2
    assert "lr: expected 0.001 as in the run so far, got 0.01" in capsys.readouterr().err


@pytest.mark.parametrize(
    "parts",
    [
        ("vae.bottleneck:vector-quantized-config", "--vae.bottleneck.warmup-steps", "2",
         "--vae.bottleneck.codebook-size", "4", "--vae.bottleneck.code-dim", "4"),
        ("vae.bottleneck:finite-scalar-config",),
        ("vae.encoder:condition-encoder-config", "vae.prior:mixture-prior-config"),
        ("loss:vae-lo-ra-loss", "--loss.lambda-halfway", "0.3"),
    ],
    ids=["vq", "fsq", "condition", "halfway"],
)  # fmt: skip
def test_an_interrupted_training_goes_on_to_the_same_bits(run_copy, parts, monkeypatch) -> None:
    step, calls = VAETrainer.train_step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(self)

    assert train_vae(run_copy, "whole", *parts) == 0
    monkeypatch.setattr(VAETrainer, "train_step", interrupted)
    assert train_vae(run_copy, "twice", *parts) == 130
    monkeypatch.undo()
    assert train_vae(run_copy, "twice", *parts) == 0
    run = RunFolder(run_copy)
    first, second = (load_vae(run.generator(name)).state_dict() for name in ("whole", "twice"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_samples_interpolations_and_a_search_are_peft_folders(run_copy, tmp_path, capsys) -> None:
    assert train_vae(run_copy, "vae") == 0
    out, where = tmp_path / "out", ["--vae", str(run_copy)]
    assert (
        CONSOLE.run(["sample", "say the letter", *where, "--n", "2", "--out", str(out / "s")]) == 0
    )
    drawn = [load_adapter(out / "s" / f"sample_{place:03d}") for place in range(2)]
    path = drawn[0].spec.paths[0]
    assert not torch.equal(drawn[0].lora_B[path], drawn[1].lora_B[path])
    teachers = sorted((run_copy / "checkpoints" / "caps").iterdir())
    arguments = [str(teachers[0]), "say the letter", *where, "--steps", "3"]
    assert CONSOLE.run(["interpolate", *arguments, "--out", str(out / "i")]) == 0
    assert [p.name for p in sorted((out / "i").iterdir())] == ["step_000", "step_001", "step_002"]
    assert CONSOLE.run(["interpolate", *arguments, "--out", str(out / "i")]) == 2
    assert "step_000" in capsys.readouterr().err
    assert CONSOLE.run(["interpolate", *arguments, "--even", "--out", str(out / "e")]) == 0
    for step, same in ((0, True), (1, False), (2, True)):
        plain, even = (load_adapter(out / kind / f"step_{step:03d}").lora_B[path] for kind in "ie")
        assert torch.equal(plain, even) is same
    # Nothing of a longer series stays behind a shorter one, and nothing else is touched.
    (out / "i" / "step_notes").mkdir()
    fewer = [*arguments[:-1], "2", "--out", str(out / "i"), "--overwrite"]
    assert CONSOLE.run(["interpolate", *fewer]) == 0
    assert {p.name for p in (out / "i").iterdir()} == {"step_000", "step_001", "step_notes"}
    one = ["sample", "x", *where, "--n", "1", "--out", str(out / "s"), "--overwrite"]
    assert CONSOLE.run(one) == 0
    assert [p.name for p in (out / "s").iterdir()] == ["sample_000"]
    files = json.loads((run_copy / "checkpoints" / "manifest.json").read_text())["settings"][
        "tasks"
    ]
    arguments = [files[0], *where, "--generations", "2", "--population", "4", "--examples", "2"]
    assert CONSOLE.run(["search", *arguments, "--out", str(out / "f")]) == 0
    assert "nats on validation" in capsys.readouterr().out
    assert load_adapter(out / "f").n == 1


def test_what_the_tools_cannot_read_is_named(run_copy, tmp_path, capsys) -> None:
    assert CONSOLE.run(["sample", "x", "--vae", str(run_copy)]) == 2
    assert "vae: expected one trained by `llgbm train-vae`, got none" in capsys.readouterr().err
    assert train_vae(run_copy, "vae") == 0
    teacher = load_adapter(run_copy / "checkpoints" / "caps" / "caps_000")
    told = {"condition.json": json.dumps({"kind": "prompts", "texts": ["a"]})}
    lettered, counted, louder, huge = (
        tmp_path / name for name in ("lettered", "counted", "louder", "huge")
    )
    for folder, texts in ((lettered, "abc"), (counted, [1])):
        said = json.dumps({"kind": "prompts", "texts": texts})
        save_adapter(teacher, folder, extra_files={"condition.json": said})
    other = replace(teacher, spec=replace(teacher.spec, lora_alpha=8.0))
    save_adapter(other, louder, extra_files=told)
    save_adapter(teacher.map(lambda factor: factor * 1e30), huge, extra_files=told)
    capsys.readouterr()
    for arguments, words in (
        (["sample", " "], "text: expected a sentence"),
        (["interpolate", str(tmp_path), "x"], "expected the folder of an adapter, got none"),
        (["interpolate", "x", "y", "--steps", "1"], "steps: expected at least 2, got 1"),
        (["search", "nowhere"], "nowhere"),
        (["search", "arc_easy", "--sigma", "0"], "sigma: expected more than 0, at most 100, got 0"),
        (["search", "arc_easy", "--sigma", "inf"], "at most 100, got inf"),
        (["search", "arc_easy", "--seed", str(2**40)], "seed: expected from 0 to 4294967295"),
        (["sample", "x", "--seed", str(2**70)], "seed: expected from 0 to 4294967295"),
        (["interpolate", "x", "/gone/adapter"], "/gone/adapter: adapter_config.json: expected"),
        (["interpolate", "x", __file__], "expected the folder of an adapter, got none"),
        (["interpolate", "x", str(lettered)], "expected several texts, got 'abc'"),
        (["interpolate", "x", str(counted)], "expected texts, got 1 at 0"),
        (["interpolate", "x", str(louder)], "spec: expected lora_alpha=4 as the VAE's, got"),
        (["interpolate", "x", str(huge)], "huge: latent: expected finite numbers"),
    ):
        command = [*arguments, "--vae", str(run_copy), "--out", str(tmp_path / "out")]
        assert CONSOLE.run(command) == 2, arguments
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_few_teachers_to_hold_any_out_are_refused(run_copy, capsys) -> None:
    assert train_vae(run_copy, "vae", "--hold-out", "2") == 2
    assert "expected more than the 2 held out, got 2" in capsys.readouterr().err
    assert not RunFolder(run_copy).generator("vae").exists()


def test_checkpoints_along_the_way_are_kept_and_trained_on(
    tiny_run, tmp_path, teach_command, capsys
) -> None:
    run = tmp_path / "run"
    arguments = teach_command(run, *tiny_run[1:])
    assert CONSOLE.run([*arguments, "--keep-every", "2"]) == 0
    kept = sorted((run / "trajectories" / "caps" / "caps_000").iterdir())
    assert [path.name for path in kept] == ["step_00002", "step_00004"]
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    assert train_vae(run, "vae", "--augment.trajectories", "2") == 0
    assert train_vae(run, "more", "--augment.trajectories", "3") == 2
    assert "checkpoints: expected at least 3, got 2" in capsys.readouterr().err


def test_interpolated_adapters_lie_between_in_the_space_of_updates(
    tiny_spec, make_teachers
) -> None:
    teachers = make_teachers(tiny_spec, 2)
    middle = interpolated(teachers, [(0, 1)], [0.5])
    path = tiny_spec.paths[0]
    updates = teachers.lora_B[path] @ teachers.lora_A[path]
    u, s, vh = torch.linalg.svd(updates.mean(0))
    best = (u[:, : tiny_spec.r] * s[: tiny_spec.r]) @ vh[: tiny_spec.r]
    torch.testing.assert_close(
        (middle.lora_B[path] @ middle.lora_A[path])[0], best, atol=1e-5, rtol=1e-3
    )
    ends = interpolated(teachers, [(0, 1), (0, 1)], [0.0, 1.0])
    torch.testing.assert_close(update_cosine(ends, teachers), torch.ones(2), atol=1e-4, rtol=0)


def test_partial_adapters_lose_whole_layers(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 4)
    part = partial(teachers, 0.5, random.Random(0))
    norms = part.delta_norms() > 0
    for row in norms:
        layers = {m.layer for m, moved in zip(tiny_spec.modules, row, strict=True) if moved}
        still = {m.layer for m, moved in zip(tiny_spec.modules, row, strict=True) if not moved}
        assert len(layers) == 1
        assert not layers & still


def test_noise_is_a_share_of_each_factor(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 2)
    noisy = with_noise(teachers, 0.1, torch.Generator().manual_seed(0))
    path = tiny_spec.paths[0]
    moved = (noisy.lora_B[path] - teachers.lora_B[path]).norm() / teachers.lora_B[path].norm()
    assert float(moved) == pytest.approx(0.1, rel=0.2)


def test_a_search_with_another_base_is_refused(
    tiny_run, run_copy, tmp_path, make_tiny_model, capsys
) -> None:
    assert train_vae(run_copy, "vae") == 0
    shutil.copytree(tiny_run[1], tmp_path / "model")
    make_tiny_model(seed=1).save_pretrained(tmp_path / "model")
    file = run_copy / "generators" / "vae" / "config.json"
    content = json.loads(file.read_text())
    content["metadata"]["base_model"] = str(tmp_path / "model")
    file.write_text(json.dumps(content))
    arguments = ["search", tiny_run[2][0], "--vae", str(run_copy), "--out", str(tmp_path / "out")]
    assert CONSOLE.run(arguments) == 2
    assert "vae: base model: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("vae.latent_dim", 2.5, "belong to different"),
        ("vae.decoder", {"kind": "GaussianConfig"}, "belong to different"),
        ("metadata.base_model", None, "metadata: base_model: expected a string, got None"),
        ("metadata.base_fingerprint", 5, "metadata: base_fingerprint: expected a string, got 5"),
    ],
)
def test_a_changed_vae_is_refused(run_copy, tmp_path, key, value, words, capsys) -> None:
    assert train_vae(run_copy, "vae") == 0
    file = run_copy / "generators" / "vae" / "config.json"
    content = json.loads(file.read_text())
    part, name = key.split(".")
    content[part][name] = value
    file.write_text(json.dumps(content))
    arguments = ["sample", "x", "--vae", str(run_copy), "--out", str(tmp_path / "out")]
    assert CONSOLE.run(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_vae_reads_the_encoder_of_its_training(tmp_path, capsys) -> None:
    config = VAETrainConfig(tmp_path, vae=VAEConfig(text_encoder="zz"), encoder="minilm-l6")
    assert config.settings()["vae"]["text_encoder"] == "minilm-l6"
    assert train_vae(tmp_path, "vae", "--vae.text-encoder", "zz") == 2
    assert "--vae.text-encoder" in capsys.readouterr().err


def test_the_largest_seed_trains(run_copy) -> None:
    assert train_vae(run_copy, "vae", "--seed", str(2**32 - 1), "--condition-noise", "0.1") == 0


@pytest.mark.parametrize("option", ["--lr", "--augment.noise", "--loss.free-bits"])
def test_settings_without_bound_are_refused(tmp_path, option, capsys) -> None:
    loss = ["loss:vae-lo-ra-loss"] if option.startswith("--loss") else []
    assert train_vae(tmp_path, "vae", *loss, option, "inf") == 2
    assert "expected at least 0 and finite, got inf" in capsys.readouterr().err
