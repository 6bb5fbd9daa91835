"""llgbm-deltas from end to end, on a tiny model in a folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.peft_format import load_adapter, save_adapter


@pytest.fixture
def store(saved_model, make_weights, tmp_path) -> Path:
    model, _ = load_base_model(str(saved_model))
    weights = make_weights(model, n=3)
    for index in range(3):
        path = tmp_path / "store" / "task" / f"a{index}"
        save_adapter(weights.select([index]), path, str(saved_model), base_fingerprint(model))
    return tmp_path / "store"


def test_compute_stats_retrieve_and_merge(store, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    assert "3 computed, 0 reused" in capsys.readouterr().out
    assert CONSOLE.run(["compute", str(store)]) == 0
    assert "0 computed, 3 reused" in capsys.readouterr().out
    assert CONSOLE.run(["stats", str(store / "deltas")]) == 0
    assert "median" in capsys.readouterr().out
    assert CONSOLE.run(["retrieve", str(store / "deltas"), "a1", "--k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    adapters = [str(store / "task" / f"a{i}") for i in range(2)]
    assert CONSOLE.run(["merge", *adapters, "--out", str(store / "m"), "--r", "8"]) == 0
    assert load_adapter(store / "m").spec.r == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compute", "nowhere"], "expected a folder of adapters"),
        (["stats", "nowhere"], "run `llgbm-deltas compute` first"),
        (["merge", "a", "--out", "b"], "expected at least 2 adapters"),
        (["merge", "a", "b", "--out", "c"], "expected a folder, got nothing"),
        (["merge", "a", "b", "--out", "c", "--r", "-1"], "r: expected at least 0, got -1"),
        (["merge", "a", "b", "--out", "c", "--density", "2"], "density: expected above 0"),
        (["merge", "a", "b"], "Missing from llgbm-deltas merge: --out"),
        (["merge", "a", "b", "--out", "c", "--r", "x"], "Error parsing --r"),
        (["stats", "x", "--nope", "1"], "Unrecognized options: --nope"),
        (
            ["stats", "x", "--seed", str(2**32)],
            "seed: expected from 0 to 4294967295, got 4294967296",
        ),
        (["canonical", "x", "--seed", "-1"], "seed: expected from 0 to 4294967295, got -1"),
        (["project", "x", "--out", "y.safetensors", "--seed", str(2**32)], "seed: expected from 0"),
        (["compute", "x", "--adapters-per-forward", "0"], "adapters_per_forward: expected at"),
        (["retrieve", "x", "y", "--k", "0"], "k: expected at least 1, got 0"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, words, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CONSOLE.run(arguments) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_merge_replaces_an_adapter_on_demand_and_nothing_else_ever(store, capsys) -> None:
    adapters = [str(store / "task" / f"a{i}") for i in range(2)]
    precious = store / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for out in (precious, precious / "thesis.txt"):
        for more in ([], ["--overwrite"]):
            assert CONSOLE.run(["merge", *adapters, "--out", str(out), *more]) == 2
    printed = capsys.readouterr().err
    assert "add --overwrite" in printed
    assert "expected an adapter to overwrite" in printed
    assert (precious / "thesis.txt").read_text() == "years of work"
    # One of the inputs, on demand: it is read before it is replaced.
    assert CONSOLE.run(["merge", *adapters, "--out", adapters[0]]) == 2
    assert CONSOLE.run(["merge", *adapters, "--out", adapters[0], "--overwrite"]) == 0


def test_a_rank_beyond_the_smallest_layer_is_refused(store, capsys) -> None:
    adapters = [str(store / "task" / f"a{i}") for i in range(2)]
    assert CONSOLE.run(["merge", *adapters, "--out", str(store / "m"), "--r", "9999"]) == 2
    assert "the smallest side, got 9999" in capsys.readouterr().err
    assert not (store / "m").exists()


def test_layers_that_the_model_lacks_are_named(store, capsys) -> None:
    assert CONSOLE.run(["compute", str(store), "--deltas.layers", "99"]) == 2
    assert "layers: expected indices from -3 to 2, got [99]" in capsys.readouterr().err


def test_unknown_probes_and_adapters_are_named(store, capsys) -> None:
    assert CONSOLE.run(["compute", str(store), "--probes", "nope"]) == 2
    assert "probes: expected generic" in capsys.readouterr().err
    assert CONSOLE.run(["compute", str(store)]) == 0
    assert CONSOLE.run(["retrieve", str(store / "deltas"), "zz"]) == 2
    assert "expected an adapter of the cache" in capsys.readouterr().err


def test_an_adapter_for_other_shapes_is_refused(store, make_tiny_model, make_weights, capsys):
    weights = make_weights(make_tiny_model(), n=1)
    renamed = {f"x.{p}": f for p, f in weights.lora_A.items()}
    from llgbm.deltas.spec import LoRASpec, ModuleShape
    from llgbm.deltas.weights import LoRAWeights

    spec = weights.spec
    moved = LoRASpec(
        tuple(ModuleShape(f"x.{m.path}", m.in_features, m.out_features) for m in spec.modules),
        spec.r,
        spec.lora_alpha,
    )
    other = LoRAWeights(moved, renamed, {f"x.{p}": f for p, f in weights.lora_B.items()})
    save_adapter(other, store / "foreign")
    model = str(store.parent / "model")
    assert CONSOLE.run(["compute", str(store), "--base-model", model]) == 2
    # The adapter is named, and as a query too.
    words = f"{store / 'foreign'}: x.{spec.paths[0]}: expected a Linear in the base model"
    assert words in capsys.readouterr().err
    shutil.move(store / "foreign", store.parent / "foreign")
    query = str(store.parent / "foreign")
    assert CONSOLE.run(["retrieve", str(store), query, "--base-model", model]) == 2
    assert f"{query}: x.{spec.paths[0]}: expected a Linear" in capsys.readouterr().err


def test_statistics_are_of_the_adapters_there_are(store, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    assert "a2" in capsys.readouterr().out
    shutil.rmtree(store / "task" / "a2")
    assert CONSOLE.run(["compute", str(store)]) == 0
    printed = capsys.readouterr().out
    assert "a1" in printed
    assert "a2" not in printed


@pytest.mark.parametrize("lone", [True, False])
def test_ids_that_collide_are_told(store, lone, capsys) -> None:
    # By the path where the name is shared, or by a name of that form.
    twin = store / ("task__a0" if lone else "more/task__a0")
    shutil.copytree(store / "task" / "a0", twin)
    shutil.copytree(store / "task" / "a0", store / "other" / "a0")
    assert CONSOLE.run(["compute", str(store)]) == 2
    said = capsys.readouterr().err
    assert "expected an id of its own, got task__a0, which" in said
    assert str(twin) in said
    assert str(store / "task" / "a0") in said


@pytest.mark.parametrize(("here", "root"), [("a0", "."), ("a0/sub", "..")])
def test_an_adapter_folder_itself_has_its_name_for_id(
    store, here, root, monkeypatch, capsys
) -> None:
    (store / "task" / here).mkdir(exist_ok=True)
    monkeypatch.chdir(store / "task" / here)
    assert CONSOLE.run(["compute", root]) == 0
    assert (store / "task" / "a0" / "deltas" / "a0.npy").exists()
    assert "a0 " in capsys.readouterr().out


def test_a_manifest_of_something_else_is_no_cache(tmp_path, capsys) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1, "base_fingerprint": "0"}')
    assert CONSOLE.run(["stats", str(tmp_path)]) == 2
    words = "expected the manifest of a delta cache, got one without 'base_model'"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_mistake_is_told_whether_or_not_it_comes_in_a_box(encoding) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "llgbm.deltas", "stats", "x", "--seed", "y", "--nope"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "--nope" in run.stderr or "Error parsing --seed" in run.stderr
    assert "helptext" not in run.stderr
