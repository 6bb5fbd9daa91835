"""`llgbm-deltas retrieve` on a folder of adapters: ids, folders and saved deltas as queries."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.commands.cached import read_cache
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.merging import merge
from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.deltas.probes import create_generic_probes
from llgbm.deltas.retrieval import retrieve
from llgbm.deltas.same_rank import at_common_rank
from llgbm.deltas.weights import LoRAWeights


@pytest.fixture
def weights(make_tiny_model, make_weights) -> LoRAWeights:
    """Return six adapters; the last is close to the first."""
    drawn = make_weights(make_tiny_model(), n=5)
    near = drawn.select([0]).map(lambda factor: factor * 1.05)
    return LoRAWeights.concatenate([drawn, near])


@pytest.fixture
def store(saved_model, weights, tmp_path, monkeypatch) -> Path:
    """Return a folder with the first four adapters and the last."""
    monkeypatch.setattr("llgbm.deltas.base_models.default_dtype", lambda device: torch.float32)
    print_ = base_fingerprint(load_base_model(str(saved_model))[0])
    for index in (0, 1, 2, 3, 5):
        path = tmp_path / "store" / "task" / f"a{index}"
        save_adapter(weights.select([index]), path, str(saved_model), print_)
    save_adapter(weights.select([4]), tmp_path / "elsewhere" / "b", str(saved_model), print_)
    return tmp_path / "store"


@pytest.fixture
def ask(store, capsys):
    """Return a call of `llgbm-deltas retrieve FOLDER ... --json` that gives its answer."""

    def run(*words: str) -> dict:
        capsys.readouterr()
        assert CONSOLE.run(["retrieve", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_a_folder_without_deltas_gets_them_and_answers(store, ask, weights, saved_model) -> None:
    answer = ask(str(store), "a0", "--k", "3")
    assert next(row["id"] for row in answer["nearest"]) == "a5"
    cosines = [row["cosine"] for row in answer["nearest"]]
    assert len(cosines) == 3
    assert cosines == sorted(cosines, reverse=True)
    assert answer["nearest"][0]["path"] == str(store / "task" / "a5")
    ids, deltas = read_cache(store / "deltas")
    assert ids == ["a0", "a1", "a2", "a3", "a5"]
    model, _ = load_base_model(str(saved_model), dtype=torch.float32)
    spec = DeltaSpec((-2, -1), aggregation="per_probe")
    with torch.no_grad():
        mine = compute_delta(model, weights, create_generic_probes(), spec)[[0, 1, 2, 3, 5]]
    torch.testing.assert_close(deltas, mine, atol=1e-5, rtol=0)
    indices, expected = retrieve(mine[0], mine[1:], 3)
    assert [row["id"] for row in answer["nearest"]] == [ids[1:][i] for i in indices]
    np.testing.assert_allclose(cosines, expected, atol=1e-5)


def test_a_complete_cache_needs_no_base_model(store, ask, monkeypatch) -> None:
    first = ask(str(store), "a0")
    monkeypatch.setattr(
        "llgbm.deltas.commands.folder_deltas.load_base_model", lambda *a: pytest.fail("loaded")
    )
    assert ask(str(store), "a0") == first
    by_cache = ask(str(store / "deltas"), "a0")
    assert [row["id"] for row in by_cache["nearest"]] == [row["id"] for row in first["nearest"]]
    # An adapter that is gone is no answer, though its delta is still cached.
    shutil.rmtree(store / "task" / "a5")
    assert "a5" not in [row["id"] for row in ask(str(store), "a0")["nearest"]]


def test_only_what_is_new_is_computed_with_the_settings_of_the_cache(
    store, ask, weights, saved_model
) -> None:
    words = ["--probes", "math", "--deltas.pooling", "mean"]
    assert CONSOLE.run(["compute", str(store), *words]) == 0
    before = (store / "deltas" / "a1.npy").stat().st_mtime_ns
    save_adapter(weights.select([4]), store / "task" / "a4", str(saved_model))
    assert "a4" in [row["id"] for row in ask(str(store), "a0")["nearest"]]
    assert (store / "deltas" / "a1.npy").stat().st_mtime_ns == before
    manifest = json.loads((store / "deltas" / "manifest.json").read_text())
    assert (manifest["probes"], manifest["spec"]["pooling"]) == ("math", "mean")


def test_ids_folders_copies_and_saved_deltas_ask_the_same(store, ask, tmp_path) -> None:
    by_id = ask(str(store), "a0")
    by_folder = ask(str(store), str(store / "task" / "a0"))
    assert by_folder["nearest"] == by_id["nearest"]
    assert ask(str(store / "deltas"), str(store / "task" / "a0"))["nearest"] == [
        {key: row[key] for key in ("id", "cosine")} for row in by_id["nearest"]
    ]
    # A copy elsewhere is another adapter: the one in the folder is its nearest.
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(store / "task" / "a0", copy)
    answer = ask(str(store), str(copy))["nearest"]
    assert (answer[0]["id"], answer[0]["cosine"]) == ("a0", pytest.approx(1.0, abs=1e-6))
    delta = np.load(store / "deltas" / "a0.npy")
    save_file({"delta": torch.from_numpy(delta)}, tmp_path / "d.safetensors")
    for file in (store / "deltas" / "a0.npy", tmp_path / "d.safetensors"):
        assert ask(str(store), str(file))["nearest"] == answer


def test_an_adapter_from_elsewhere_is_measured_as_the_cache_was(store, ask, weights, tmp_path):
    answer = ask(str(store), str(tmp_path / "elsewhere" / "b"), "--k", "5")["nearest"]
    ids, deltas = read_cache(store / "deltas")
    model, _ = load_base_model(str(store.parent / "model"), dtype=torch.float32)
    spec = DeltaSpec((-2, -1), aggregation="per_probe")
    with torch.no_grad():
        query = compute_delta(model, weights.select([4]), create_generic_probes(), spec)[0]
    indices, cosines = retrieve(query, deltas, 5)
    assert [row["id"] for row in answer] == [ids[i] for i in indices]
    np.testing.assert_allclose([row["cosine"] for row in answer], cosines, atol=1e-5)


@pytest.mark.parametrize("method", ["average", "ties", "dare"])
def test_the_nearest_are_merged_into_one_adapter(method, store, ask, tmp_path) -> None:
    out = tmp_path / "merged"
    words = ["--k", "2", "--merge", str(out), "--method", method, "--r", "3"]
    answer = ask(str(store), "a0", *words)
    assert answer["merged"] == str(out)
    parts = [load_adapter(row["path"]) for row in answer["nearest"]]
    expected = merge(at_common_rank(parts), method=method, r=3)
    merged = load_adapter(out)
    assert merged.spec == expected.spec
    for path in merged.spec.paths:
        assert torch.equal(merged.lora_A[path], expected.lora_A[path])
        assert torch.equal(merged.lora_B[path], expected.lora_B[path])


def test_cosines_weigh_the_merge(store, ask, tmp_path) -> None:
    out = tmp_path / "merged"
    answer = ask(str(store), "a0", "--k", "1", "--merge", str(out), "--coefficients", "cosine")
    merged, nearest = load_adapter(out), load_adapter(answer["nearest"][0]["path"])
    # One adapter weighs 1, whatever its cosine.
    for path in merged.spec.paths:
        update = nearest.lora_B[path] @ nearest.lora_A[path]
        torch.testing.assert_close(
            merged.lora_B[path] @ merged.lora_A[path], update, atol=1e-5, rtol=0
        )


def test_plain_output_is_a_line_an_adapter(store, capsys, tmp_path) -> None:
    words = ["retrieve", str(store), "a0", "--k", "2", "--merge", str(tmp_path / "m")]
    assert CONSOLE.run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("  a5")
    assert float(lines[0].split()[0]) > 0.9
    assert lines[2] == f"{tmp_path / 'm'}: 2 adapters merged (average)"


def _numbers(folder: Path) -> Path:
    np.save(folder / "n.npy", np.array([np.nan], dtype=np.float32))
    return folder / "n.npy"


def _pickle(folder: Path) -> Path:
    np.save(folder / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return folder / "p.npy"


def _two(folder: Path) -> Path:
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, folder / "t.safetensors")
    return folder / "t.safetensors"


def _shape(folder: Path) -> Path:
    np.save(folder / "s.npy", np.ones(7, dtype=np.float32))
    return folder / "s.npy"


def _cut(folder: Path) -> Path:
    (folder / "c.safetensors").write_bytes(b"\x08\x00")
    return folder / "c.safetensors"


def _whole_numbers(folder: Path) -> Path:
    np.save(folder / "i.npy", np.ones(7, dtype=np.int64))
    return folder / "i.npy"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_numbers, "values: expected finite ones"),
        (_pickle, "expected an array of numbers"),
        (_two, "tensors: expected one, got ['a', 'b']"),
        (_shape, "shape: expected (5, 2, 32), got (7,)"),
        (_cut, "expected a whole safetensors file"),
        (_whole_numbers, "dtype: expected floating point"),
        (lambda folder: folder / "none.npy", "none.npy: not found"),
        (lambda folder: folder / "what", "expected an adapter of the cache (a0, a1"),
    ],
)
def test_bad_queries_are_one_line(store, tmp_path, write, words, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    capsys.readouterr()
    assert CONSOLE.run(["retrieve", str(store), str(write(tmp_path))]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("like", ["a0", "q.npy"])
def test_nothing_is_near_a_delta_of_zero(store, weights, like, tmp_path, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    if like == "a0":
        save_adapter(weights.select([0]).map(torch.zeros_like), store / "task" / "a0")
    else:
        like = str(tmp_path / like)
        np.save(like, np.zeros_like(np.load(store / "deltas" / "a0.npy")))
    capsys.readouterr()
    assert CONSOLE.run(["retrieve", str(store), like]) == 2
    assert f"{like}: delta: expected one that is not zero" in capsys.readouterr().err


def test_an_adapter_alone_has_no_neighbours_and_that_is_said(store, ask, capsys) -> None:
    for other in ("a1", "a2", "a3", "a5"):
        shutil.rmtree(store / "task" / other)
    assert ask(str(store), "a0")["nearest"] == []
    assert CONSOLE.run(["retrieve", str(store), "a0"]) == 0
    assert capsys.readouterr().out == f"{store}: no adapter but a0\n"


def test_without_the_base_the_command_to_run_is_named(store, saved_model, capsys) -> None:
    saved_model.rename(saved_model.parent / "gone")
    assert CONSOLE.run(["retrieve", str(store), "a0"]) == 2
    said = capsys.readouterr().err
    assert f"deltas are missing: run `llgbm-deltas compute {store} --base-model NAME`" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--merge", "{store}/task/a1"], "add --overwrite"),
        (["--merge", "{store}/m", "--r", "99"], "the smallest side, got 99"),
        (["--k", "4", "--merge", "{store}/m", "--coefficients", "cosine"], "cosines above 0"),
    ],
)
def test_merges_that_cannot_be_are_one_line(store, words, said, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    # Away from all others: no weight follows from a cosine below zero.
    file = store / "deltas" / "q.npy"
    np.save(file, -np.load(store / "deltas" / "a0.npy"))
    like = str(file) if "--coefficients" in words else "a0"
    capsys.readouterr()
    words = [word.format(store=store) for word in words]
    assert CONSOLE.run(["retrieve", str(store), like, *words]) == 2
    assert said in capsys.readouterr().err
    assert not (store / "m").exists()


def test_deltas_alone_and_full_models_are_not_merged(store, saved_model, tmp_path, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    out = str(tmp_path / "m")
    assert CONSOLE.run(["retrieve", str(store / "deltas"), "a0", "--merge", out]) == 2
    assert "expected the folder of the adapters, got their deltas alone" in capsys.readouterr().err
    model, _tokenizer = load_base_model(str(saved_model), dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight *= 2
    model.save_pretrained(store / "full")
    assert CONSOLE.run(["retrieve", str(store), "a0", "--k", "9", "--merge", out]) == 2
    assert "merge: full: expected an adapter, got a full model" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_an_adapter_of_another_base_is_refused(store, weights, tmp_path, capsys) -> None:
    save_adapter(weights.select([4]), tmp_path / "other", "X", "0" * 64)
    assert CONSOLE.run(["retrieve", str(store), str(tmp_path / "other")]) == 2
    assert "base model: expected" in capsys.readouterr().err
