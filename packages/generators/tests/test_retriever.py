"""Predict, retrieve, merge: the predictor learns, and what is merged are the nearest teachers."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from llgbm.deltas.merging import merge
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.retrieval import retrieve
from llgbm.generators.cli import CONSOLE
from llgbm.generators.conditions import ConditionBatch, condition_from_description, embed_conditions
from llgbm.generators.retriever.predictor import DeltaPredictor, DeltaPredictorConfig
from llgbm.generators.retriever.retrieve import training_deltas
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.text_encoder import PretrainedTextEncoder


@pytest.fixture(scope="module")
def retriever_run(tiny_run, tmp_path_factory) -> Path:
    """Return a copy of the tiny run with a trained retriever."""
    run = tmp_path_factory.mktemp("retriever") / "run"
    shutil.copytree(tiny_run[0], run)
    arguments = ["train-retriever", "--run", str(run), "--steps", "60", "--validate-every", "20"]
    assert CONSOLE.run([*arguments, "--batch-size", "4", "--condition-texts", "1", "3"]) == 0
    return run


def test_an_untrained_predictor_says_the_mean_and_a_trained_one_tells_tasks_apart(
    retriever_run,
) -> None:
    run = RunFolder(retriever_run)
    manifest = Manifest.read(run.manifest)
    predictor = DeltaPredictor.load(run.retriever("retriever"))
    deltas = training_deltas(run, manifest, predictor, run.retriever("retriever"))
    texts = [condition_from_description(f"Say {task} kind 0") for task in ("caps", "digits")]
    batch = embed_conditions(texts, PretrainedTextEncoder("minilm-l6"))
    fresh = DeltaPredictor(DeltaPredictorConfig(), predictor.delta_shape)
    fresh.fit_scales(deltas)
    mean = deltas.mean(0).expand(2, *deltas.shape[1:])
    torch.testing.assert_close(fresh(batch), mean, atol=1e-6, rtol=0)
    with torch.no_grad():
        indices, _ = retrieve(predictor(batch), deltas, 1)
    entries = manifest.of_split("train")
    assert [entries[int(i)].task for i in indices[:, 0]] == ["caps", "digits"]


def test_what_is_merged_are_the_nearest_teachers(retriever_run, tmp_path, capsys) -> None:
    out = tmp_path / "merged"
    arguments = ["retrieve", "Say caps kind 1", "--run", str(retriever_run), "--k", "2"]
    assert CONSOLE.run([*arguments, "--method", "average", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in printed[:2]]
    run = RunFolder(retriever_run)
    manifest = Manifest.read(run.manifest)
    by_id = {entry.id: entry for entry in manifest.adapters}
    teachers = manifest.load(run.checkpoints, [by_id[name] for name in names])
    expected, written = merge(teachers), load_adapter(out)
    for path in written.spec.paths:
        ours = written.lora_B[path][0] @ written.lora_A[path][0]
        theirs = expected.lora_B[path][0] @ expected.lora_A[path][0]
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    assert CONSOLE.run([*arguments, "--out", str(out)]) == 2
    assert "add --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_other_merges_are_adapters_of_the_same_rank(retriever_run, tmp_path, method) -> None:
    out = tmp_path / method
    arguments = ["retrieve", "Say digits", "--run", str(retriever_run), "--k", "3"]
    assert CONSOLE.run([*arguments, "--method", method, "--out", str(out)]) == 0
    assert load_adapter(out).spec.r == 2


def test_a_finished_retriever_is_left_and_other_settings_are_refused(retriever_run, capsys) -> None:
    folder = retriever_run / "retrievers" / "retriever"
    before = (folder / "predictor.safetensors").stat().st_mtime_ns
    arguments = ["train-retriever", "--run", str(retriever_run), "--validate-every", "20"]
    same = ["--batch-size", "4", "--condition-texts", "1", "3"]
    assert CONSOLE.run([*arguments, "--steps", "60", *same]) == 0
    assert (folder / "predictor.safetensors").stat().st_mtime_ns == before
    assert CONSOLE.run([*arguments, "--steps", "70", *same]) == 2
    assert "choose another name for other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "run `llgbm train-retriever` first"),
        (lambda f: (f / "config.json").write_text('{"format": 1}'), "kind: expected"),
        (
            lambda f: (f / "predictor.safetensors").write_bytes(b"x" * 40),
            "not a whole safetensors file",
        ),
        (
            lambda f: (f / "config.json").write_text(
                json.dumps(json.loads((f / "config.json").read_text()) | {"hidden": 8})
            ),
            "the two files belong to different",
        ),
    ],
)
def test_a_damaged_retriever_is_named(retriever_run, tmp_path, damage, words, capsys) -> None:
    shutil.copytree(retriever_run, tmp_path / "run")
    damage(tmp_path / "run" / "retrievers" / "retriever")
    assert CONSOLE.run(["retrieve", "x", "--run", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err


def test_order_and_padding_of_a_condition_do_not_matter() -> None:
    predictor = DeltaPredictor(DeltaPredictorConfig(), (2, 1, 3), seed=1)
    torch.nn.init.normal_(predictor.outer.weight)
    rows = torch.randn(3, 384, generator=torch.Generator().manual_seed(0)) / 20
    alone = predictor(ConditionBatch.of([rows]))
    padded = predictor(ConditionBatch.of([rows.flip(0), rows.repeat(2, 1)]))
    torch.testing.assert_close(alone[0], padded[0], atol=1e-5, rtol=1e-5)


def test_a_retriever_that_leaves_the_numbers_is_not_written(retriever_run, capsys) -> None:
    arguments = ["train-retriever", "--run", str(retriever_run), "--name", "wild", "--steps", "3"]
    assert CONSOLE.run([*arguments, "--lr", "1e30"]) == 2
    assert "delta cosine: expected a finite number, got nan" in capsys.readouterr().err
    assert not (retriever_run / "retrievers" / "wild").exists()
    assert CONSOLE.run([*arguments, "--lr", "inf"]) == 2
    assert "lr: expected at least 0 and finite" in capsys.readouterr().err


def test_a_retriever_without_its_settings_is_named(retriever_run, tmp_path, capsys) -> None:
    shutil.copytree(retriever_run, tmp_path / "run")
    file = tmp_path / "run" / "retrievers" / "retriever" / "config.json"
    content = json.loads(file.read_text())
    del content["metadata"]["training"]
    file.write_text(json.dumps(content))
    assert CONSOLE.run(["retrieve", "x", "--run", str(tmp_path / "run")]) == 2
    assert "config.json: metadata: training: expected its settings" in capsys.readouterr().err
