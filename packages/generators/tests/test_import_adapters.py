"""`llgbm import`: adapters trained elsewhere as the teachers of a run."""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file

from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.peft_format import load_adapter
from llgbm.generators.cli import CONSOLE
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest

ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def store(tiny_run, tmp_path):
    """Return a folder of PEFT adapters of one task and of bare files of another."""
    teachers = RunFolder(tiny_run[0]).checkpoints
    folder = tmp_path / "store"
    for index in range(2):
        shutil.copytree(teachers / "caps" / f"caps_{index:03d}", folder / "shout" / f"run-{index}")
        bare = folder / "digits" / f"{250 * (index + 1)}.safetensors"
        bare.parent.mkdir(exist_ok=True)
        shutil.copy(teachers / "digits" / f"digits_{index:03d}" / ADAPTER, bare)
    return folder


@pytest.fixture
def import_words(tiny_run, store, tmp_path):
    """Return the command line that imports the store."""
    _, base, files = tiny_run
    return [
        "import", str(store), "--run", str(tmp_path / "new"), "--base-model", str(base),
        "--tasks", f"shout={files[0]}", f"digits={files[1]}", "--lora-alpha", "4",
    ]  # fmt: skip


def test_imported_adapters_are_teachers_like_others(
    tiny_run, import_words, train_command, tmp_path, capsys
) -> None:
    assert CONSOLE.run(import_words) == 0
    assert "4 teachers; next: llgbm-deltas compute" in capsys.readouterr().out
    run = RunFolder(tmp_path / "new")
    manifest = Manifest.read(run.manifest)
    assert [entry.id for entry in manifest.adapters] == [
        "caps_000", "caps_001", "digits_000", "digits_001",
    ]  # fmt: skip
    # Bare files carry no alpha: it is the one given.
    original = load_adapter(RunFolder(tiny_run[0]).checkpoints / "digits" / "digits_001")
    copied = load_adapter(run.checkpoints / "digits" / "digits_001")
    assert copied.spec == original.spec
    assert all((copied.lora_B[path] == original.lora_B[path]).all() for path in original.lora_B)
    assert DELTAS.run(["compute", str(run.checkpoints)]) == 0
    assert CONSOLE.run(train_command(run.root, "generator")) == 0
    small = ["--steps", "2", "--batch-size", "2", "--validate-every", "2"]
    assert CONSOLE.run(["train-vae", "--run", str(run.root), *small]) == 0
    assert CONSOLE.run(["evaluate", "--run", str(run.root), "--examples", "4"]) == 0
    assert CONSOLE.run(["report", "--run", str(run.root)]) == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--held-out", "gone=sciq"], "gone: expected the folder of a task's adapters"),
        (["--held-out", "shout=sciq"], "tasks: expected each folder once"),
        (["--validation", "marks"], "marks"),
    ],
    ids=["no folder", "twice", "not a task"],
)
def test_folders_and_tasks_that_do_not_fit_are_told(import_words, changed, words, capsys) -> None:
    assert CONSOLE.run([*import_words, *changed]) == 2
    assert words in capsys.readouterr().err


def test_a_damaged_or_unlike_adapter_leaves_no_index(import_words, store, tmp_path, capsys) -> None:
    bare = store / "digits" / "500.safetensors"
    tensors = load_file(bare)
    cut = {name: t[:1] if "lora_A" in name else t[:, :1] for name, t in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in cut.items()}, bare)
    assert CONSOLE.run(import_words) == 2
    assert "500.safetensors: spec: expected" in capsys.readouterr().err
    assert not RunFolder(tmp_path / "new").manifest.exists()
    bare.write_bytes(b"no tensors")
    assert CONSOLE.run(import_words) == 2
    assert "500.safetensors" in capsys.readouterr().err
    bare.unlink()
    assert CONSOLE.run(import_words) == 0
    assert CONSOLE.run(import_words) == 2
    assert "expected a new run folder" in capsys.readouterr().err


def test_one_family_in_two_splits_is_refused(import_words, store, tiny_run, capsys) -> None:
    shutil.copytree(store / "shout", store / "again")
    words = [*import_words, "--held-out", f"again={tiny_run[2][0]}"]
    assert CONSOLE.run(words) == 2
    assert "each family in one of train, validation and test, got caps" in capsys.readouterr().err
