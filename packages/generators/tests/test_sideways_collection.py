"""Collections of checkpoints: every format is read, and what cannot be learned from is refused."""

import contextlib
import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llgbm.deltas.errors import RunError, SettingError
from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.generators.sideways.collection.checkpoint_files import read_checkpoint
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.collection.from_folders import FolderSource, collect_folders
from llgbm.generators.sideways.collection.split import split_runs
from llgbm.generators.sideways.explore.meter import FilesMeter
from llgbm.generators.sideways.model.basis import fit_basis


@pytest.fixture
def runs(quadratic_runs, tmp_path):
    """A copy of three runs to break."""
    folder = tmp_path / "runs"
    for name in ("run_00", "run_01", "run_02"):
        shutil.copytree(quadratic_runs / name, folder / name)
    return folder


def test_weights_metrics_and_hyperparameters_come_back(runs, tmp_path) -> None:
    made = collect_folders(tmp_path / "out", FolderSource(runs))
    assert len(made.checkpoints) == 15
    assert len(made.runs) == 3
    assert made.metrics == ("gain", "retention")
    assert made.hyperparameters == ("constant", "lr")
    place = made.runs["run_01"][2]
    source = load_file(runs / "run_01" / "step_30.safetensors")
    found = made.weights(place)
    assert made.checkpoints[place].step == 30
    assert all(torch.equal(found[name], source[name]) for name in source)
    again = Collection.read(tmp_path / "out")
    assert again.checkpoints == made.checkpoints
    assert again.blocks == made.blocks


def test_torch_files_bring_their_own_metrics(tmp_path) -> None:
    for run in range(3):
        folder = tmp_path / "runs" / f"r{run}"
        folder.mkdir(parents=True)
        for step in (1, 2):
            torch.save(
                {
                    "model_state_dict": {"w": torch.full((2, 3), float(run + step)), "n": 3},
                    "metrics": {"coverage": run + step / 10, "note": "words"},
                    "config": {"lr": 0.1 * run},
                },
                folder / f"epoch{step}.pt",
            )
    made = collect_folders(tmp_path / "out", FolderSource(tmp_path / "runs"))
    assert made.metrics == ("coverage",)
    assert made.hyperparameters == ("lr",)
    assert made.metric_table()[:, 0].tolist() == pytest.approx([0.1, 0.2, 1.1, 1.2, 2.1, 2.2])


def test_numbers_inside_count_where_none_of_their_kind_stand_beside(tmp_path) -> None:
    for run in ("a", "b", "c"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        for step in (1, 2):
            content = {
                # A number without dimensions is a block, too.
                "state_dict": {"w": torch.randn(3), "scale": torch.tensor(float(step))},
                "metrics": {"inside": 1.0},
                "config": {"lr": step / 10, "optimizer": "adamw"},
            }
            torch.save(content, tmp_path / "runs" / run / f"step_{step}.pt")
        steps = {str(step): {"beside": step + ord(run)} for step in (1, 2)}
        (tmp_path / "runs" / run / "metrics.json").write_text(json.dumps({"steps": steps}))
    made = collect_folders(tmp_path / "out", FolderSource(tmp_path / "runs"))
    assert (made.metrics, made.hyperparameters) == (("beside",), ("lr",))
    basis = fit_basis(made, list(range(6)), k=3)
    for place in range(6):
        written = basis.write(basis.read(made.weights(place))[0][None])
        assert written["scale"].shape == (1,)
        assert float(written["scale"]) == pytest.approx(place % 2 + 1, abs=1e-2)


def test_words_among_hyperparameters_are_left_out(runs, tmp_path) -> None:
    for path in runs.glob("*/metrics.json"):
        content = json.loads(path.read_text())
        content["hyperparameters"]["optimizer"] = "adamw"
        path.write_text(json.dumps(content))
    made = collect_folders(tmp_path / "out", FolderSource(runs))
    assert made.hyperparameters == ("constant", "lr")


def test_columns_are_read_by_name(quadratic_collection) -> None:
    records = list(quadratic_collection.checkpoints)
    turned = dict(reversed(records[3].metrics.items()))
    records[3] = replace(records[3], metrics=turned)
    again = replace(quadratic_collection, checkpoints=tuple(records))
    assert torch.equal(again.metric_table(), quadratic_collection.metric_table())


@pytest.fixture
def adapter_runs(tiny_spec, make_teachers, tmp_path):
    """Adapters of two steps of three runs in a folder of runs, with their table."""
    weights = make_teachers(tiny_spec, 6)
    rows = ["run,step,accuracy"]
    for index in range(6):
        run, step = f"r{index // 2}", index % 2 + 1
        path = tmp_path / "runs" / run / f"checkpoint-{step}"
        save_adapter(weights.select([index]), path, base_model_name="x", base_fingerprint="y")
        rows.append(f"{run},{step},{index / 10}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return weights, FolderSource(tmp_path / "runs", tmp_path / "table.csv")


def test_adapters_are_collected_as_folders(adapter_runs, tiny_spec, tmp_path) -> None:
    weights, source = adapter_runs
    made = collect_folders(tmp_path / "out", replace(source, keep=("*lora_B*",)))
    assert len(made.blocks) == len(tiny_spec.modules)
    first = made.blocks[0].name
    path = first.removeprefix("base_model.model.").removesuffix(".lora_B.weight")
    assert torch.equal(made.weights(3)[first], weights.lora_B[path][3])
    # Half of an adapter is none.
    assert "peft" not in made.source


def test_adapters_come_out_as_adapters(adapter_runs, tmp_path) -> None:
    weights, source = adapter_runs
    made = collect_folders(tmp_path / "out", source)
    meter = FilesMeter(None, made.metrics, made.source["peft"])
    read = load_adapter(meter.write(made.weights(3), tmp_path / "written"))
    for path, value in weights.lora_B.items():
        assert torch.equal(read.lora_B[path][0], value[3])
    config = tmp_path / "runs" / "r0" / "checkpoint-1" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 99}))
    assert "peft" not in collect_folders(tmp_path / "other", source).source


def test_patterns_choose_weights(runs, tmp_path) -> None:
    made = collect_folders(tmp_path / "a", FolderSource(runs, keep=("one.*",), leave=("*.bias",)))
    assert [block.name for block in made.blocks] == ["one.weight"]
    with pytest.raises(SettingError, match=r"keep: 'two\.\*' matches none"):
        collect_folders(tmp_path / "b", FolderSource(runs, keep=("two.*",)))
    with pytest.raises(SettingError, match="to stay, got none"):
        collect_folders(tmp_path / "b", FolderSource(runs, leave=("*",)))
    assert not (tmp_path / "b").exists()


class Code:
    """What a pickle may not hold."""

    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys) -> None:
    torch.save({"w": torch.ones(2), "other": Code()}, tmp_path / "1.pt")
    with pytest.raises(RunError, match="may run code"):
        read_checkpoint(tmp_path / "1.pt")
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["1.pt", "1.pth", "1.safetensors"])
def test_damaged_files_are_refused(name, tmp_path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04damaged")
    with pytest.raises(RunError, match=name):
        read_checkpoint(tmp_path / name)


def change(path, **tensors) -> None:
    save_file(load_file(path) | tensors, path)


def numbers_of(runs, run, function) -> None:
    path = runs / run / "metrics.json"
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def test_shapes_that_disagree_are_refused(runs, tmp_path) -> None:
    change(runs / "run_01" / "step_20.safetensors", scale=torch.ones(2))
    with pytest.raises(RunError, match=r"step_20.*scale: expected \(1,\) as in .*got \(2,\)"):
        collect_folders(tmp_path / "out", FolderSource(runs))
    assert not (tmp_path / "out").exists()


def test_nan_weights_are_refused(runs, tmp_path) -> None:
    change(runs / "run_02" / "step_50.safetensors", scale=torch.tensor([float("nan")]))
    with pytest.raises(RunError, match=r"step_50.*scale: expected finite"):
        collect_folders(tmp_path / "out", FolderSource(runs))


def test_missing_metrics_are_refused(runs, tmp_path) -> None:
    numbers_of(runs, "run_01", lambda content: content["steps"].pop("40"))
    with pytest.raises(RunError, match=r"step_40.*metrics: not found"):
        collect_folders(tmp_path / "a", FolderSource(runs))
    numbers_of(runs, "run_01", lambda content: content["steps"].update({"40": {"gain": 1.0}}))
    with pytest.raises(RunError, match=r"run_01, step 40: metrics: expected .*retention"):
        collect_folders(tmp_path / "b", FolderSource(runs))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_that_are_not_finite_are_refused(value, runs, tmp_path) -> None:
    numbers_of(runs, "run_00", lambda content: content["steps"]["10"].update(gain=value))
    with pytest.raises(RunError, match="run_00, step 10: gain: expected a finite number"):
        collect_folders(tmp_path / "out", FolderSource(runs))


def test_a_constant_metric_is_refused(runs, tmp_path) -> None:
    def same(content) -> None:
        for values in content["steps"].values():
            values["gain"] = 0.5

    for run in ("run_00", "run_01", "run_02"):
        numbers_of(runs, run, same)
    with pytest.raises(RunError, match=r"metric 'gain': expected values that differ, got 0\.5"):
        collect_folders(tmp_path / "out", FolderSource(runs))
    made = collect_folders(tmp_path / "out", FolderSource(runs, metrics=("retention",)))
    assert made.metrics == ("retention",)


def test_one_run_alone_is_refused(runs, tmp_path) -> None:
    shutil.rmtree(runs / "run_01")
    shutil.rmtree(runs / "run_02")
    with pytest.raises(RunError, match="runs: expected at least 3"):
        collect_folders(tmp_path / "out", FolderSource(runs))


def test_names_without_a_step_and_steps_twice_are_refused(runs, tmp_path) -> None:
    shutil.copy(runs / "run_00" / "step_10.safetensors", runs / "run_00" / "copy-10.safetensors")
    with pytest.raises(RunError, match="expected step 10 once"):
        collect_folders(tmp_path / "out", FolderSource(runs))
    (runs / "run_00" / "copy-10.safetensors").rename(runs / "run_00" / "final.safetensors")
    with pytest.raises(RunError, match="ends in its step"):
        collect_folders(tmp_path / "out", FolderSource(runs))


def test_tables_with_other_columns_or_lines_twice_are_refused(runs, tmp_path) -> None:
    table = tmp_path / "table.csv"
    for text, said in (
        ("name,step,gain\nrun_00,10,1", "columns run, step"),
        ("run,step,gain\nrun_00,10,1\nrun_00,10,2", "got twice"),
        ("run,step,gain\nrun_00,10,much", "gain: expected a number"),
        ("run,step,gain\nrun_00,first,1", "step: expected a whole number"),
    ):
        table.write_text(text)
        with pytest.raises(RunError, match=said):
            collect_folders(tmp_path / "out", FolderSource(runs, table))


def test_no_checkpoints_are_refused(tmp_path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError, match="checkpoints: expected"):
        collect_folders(tmp_path / "out", FolderSource(tmp_path / "runs"))
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="there: expected a new folder"):
        collect_folders(tmp_path / "there", FolderSource(tmp_path / "runs"))
    with pytest.raises(RunError, match="not a folder"):
        collect_folders(tmp_path / "out", FolderSource(tmp_path / "none"))


def test_a_damaged_index_is_refused(runs, tmp_path) -> None:
    collect_folders(tmp_path / "out", FolderSource(runs))
    index = tmp_path / "out" / "collection.json"
    whole = json.loads(index.read_text())
    for change_of, said in (
        ({"schema": 99}, "schema and kind"),
        ({"checkpoints": []}, "expected at least one"),
        ({"blocks": [{"name": "w"}]}, "blocks and checkpoints"),
    ):
        index.write_text(json.dumps(whole | change_of))
        with pytest.raises(RunError, match=said):
            Collection.read(tmp_path / "out")


def test_runs_stand_on_one_side_of_the_split(quadratic_collection) -> None:
    split = split_runs(quadratic_collection, seed=3)
    parts = [set(split.train), set(split.validation), set(split.test)]
    assert [len(part) for part in parts] == [9, 3, 3]
    assert set.union(*parts) == set(quadratic_collection.runs)
    assert sum(map(len, parts)) == len(quadratic_collection.runs)
    assert (
        split
        == split_runs(quadratic_collection, seed=3)
        != split_runs(quadratic_collection, seed=4)
    )


def test_tied_weights_are_collected_under_both_names(tmp_path) -> None:
    for run in range(3):
        folder = tmp_path / "runs" / f"r{run}"
        folder.mkdir(parents=True)
        for step in (1, 2):
            tied = torch.full((2, 3), float(run + step))
            content = {"model": {"embed": tied, "head": tied}, "metrics": {"a": run + step / 7}}
            torch.save(content, folder / f"{step}.pt")
    made = collect_folders(tmp_path / "out", FolderSource(tmp_path / "runs"))
    assert torch.equal(made.weights(5)["embed"], made.weights(5)["head"])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_torch_file_that_is_cut_or_changed_is_an_error_or_whole(data) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(6.0)}, buffer)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.pt"
        path.write_bytes(content)
        with contextlib.suppress(RunError):
            assert set(read_checkpoint(path).tensors)
