"""The main experiment on a tiny model: one command, every result file, and it goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError
from llgbm.generators.evaluation.results import Results
from llgbm.generators.experiments import presets, run_main
from llgbm.generators.experiments.ablation_results import AblationResults
from llgbm.generators.experiments.composition_results import CompositionResults
from llgbm.generators.experiments.run_main import MainConfig
from llgbm.generators.teachers.batched import TeacherOptim


def test_one_command_writes_every_result_and_goes_on(tiny_run, tmp_path, monkeypatch) -> None:
    _, folder, files = tiny_run
    tiny = presets.ExperimentPreset(
        tasks=(files[0],),
        validation=(files[1],),
        held_out=(files[2],),
        teachers_per_task=2,
        teacher=TeacherOptim(steps=3, examples_per_step=4, lr=0.02),
        steps=10,
        batch_size=2,
        codes=2,
        seeds=2,
        examples=4,
        equal_seconds=0.3,
        pairs=1,
        r=2,
    )
    # Composition wants two training tasks.
    rows = json.loads(Path(files[0]).read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**rows, "name": "other"}))
    tiny = replace(tiny, tasks=(files[0], str(other)))
    monkeypatch.setitem(presets.PRESETS, "demo", tiny)
    model, tokenizer = load_base_model(str(folder))
    config = MainConfig("demo", tmp_path / "run", tmp_path / "out", str(folder))
    evaluate, stopped = run_main.evaluate, []

    def interrupted(*arguments, **options):
        if not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    monkeypatch.setattr(run_main, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_main.run_main(config, model, tokenizer)
    monkeypatch.setattr(
        run_main, "run_ablations", lambda *a, **k: pytest.fail("done parts are done again")
    )
    files_written = run_main.run_main(config, model, tokenizer)
    assert {path.name for path in files_written} == {
        "demo-objectives.json", "demo-evaluation.json", "demo-composition.json",
        "demo-identifiability.json", "demo-seconds.json",
    }  # fmt: skip
    objectives = AblationResults.read(tmp_path / "out" / "demo-objectives.json")
    assert objectives.reference == "weights only"
    assert objectives.variants["recommended"].seeds == 2
    results = Results.read(tmp_path / "out" / "demo-evaluation.json")
    assert results.metrics["seen.recommended-s1.accuracy"] is not None
    # Those that are evaluated have a preset's steps; those that are compared, as many as fit.
    finished = json.loads((tmp_path / "run/generators/recommended-s1/finished.json").read_text())
    assert finished["steps"] == tiny.steps
    assert set(results.accuracy) == {"seen", "validation_family", "held_out_family"}
    assert results.split_of_task["marks"] == "held_out_family"
    asked = {"rank1", "multi_task", "gaussian", "teacher_noise", "predicted_average", "described"}
    assert asked <= set(results.accuracy["held_out_family"])
    CompositionResults.read(tmp_path / "out" / "demo-composition.json")
    found = json.loads((tmp_path / "out" / "demo-identifiability.json").read_text())
    assert set(found["mean"]) >= {"rank1", "base"}
    # Another job does not take over what this one has done.
    with pytest.raises(RunError, match="seed: expected 0 as in the run so far, got 1"):
        run_main.run_main(replace(config, seed=1), model, tokenizer)
