"""`llgbm-deltas meaning` and `project`: what a user sees and what the files hold."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.by_layer import directions
from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.commands.cached import read_cache
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.meaning import CONTINUATIONS, compute_meaning
from llgbm.deltas.meaning_files import Meanings
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.probes import create_generic_probes


@pytest.fixture
def store(saved_model, make_tiny_model, make_weights, tmp_path, monkeypatch) -> Path:
    """Return a folder of two adapters and a nearly equal third."""
    monkeypatch.setattr("llgbm.deltas.base_models.default_dtype", lambda device: torch.float32)
    print_ = base_fingerprint(load_base_model(str(saved_model))[0])
    weights = make_weights(make_tiny_model(), n=2)
    near = weights.select([0]).map(lambda factor: factor * 1.02)
    for name, each in {"a": weights.select([0]), "b": weights.select([1]), "c": near}.items():
        save_adapter(each, tmp_path / "store" / name, str(saved_model), print_)
    return tmp_path / "store"


@pytest.fixture
def meanings(store, tmp_path, capsys) -> Path:
    """Return the file of the folder's meanings."""
    out = tmp_path / "meanings.json"
    assert CONSOLE.run(["meaning", str(store), "--out", str(out)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("a ") and "; c (0.9" in line for line in shown)
    assert any(line.startswith("c ") and "; a (0.9" in line for line in shown)
    assert shown[-1] == f"{out}: 3 meanings of {5 * len(CONTINUATIONS)} numbers"
    return out


def test_the_file_holds_the_meanings_and_stands_for_the_folder(
    store, meanings, make_tiny_model, make_weights, capsys
) -> None:
    found = Meanings.read(meanings)
    assert found.ids == ("a", "b", "c")
    model = make_tiny_model()
    with torch.no_grad():
        expected = compute_meaning(model, make_weights(model, n=2), create_generic_probes())
    torch.testing.assert_close(found.values[:2], expected, atol=1e-5, rtol=1e-4)
    assert CONSOLE.run(["meaning", str(store), "--beside", str(meanings)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("b ") and line.endswith("; b (1.000)") for line in shown)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "deltas"}, "kind: expected meanings, got deltas"),
        ({"probes": "one"}, "probes: expected a list of texts, got one"),
        ({"adapters": {}}, "adapters: expected numbers by adapter"),
        ({"adapters": {"a": [1.0]}}, "shape: expected (1, 60), got (1, 1)"),
        ({"adapters": {"a": [1.0], "b": []}}, "adapters: expected rows of numbers"),
        ({"continuations": [" other"] * 12}, "expected the continuations of"),
    ],
)
def test_damaged_or_other_files_are_told(store, meanings, change, words, capsys) -> None:
    content = json.loads(meanings.read_text())
    meanings.write_text(json.dumps(content | change))
    assert CONSOLE.run(["meaning", str(store), "--beside", str(meanings)]) == 2
    assert words in capsys.readouterr().err


def test_projected_deltas_keep_cosines_and_their_ids(store, tmp_path, capsys) -> None:
    assert CONSOLE.run(["compute", str(store)]) == 0
    out = tmp_path / "small.safetensors"
    cache = str(store / "deltas")
    assert CONSOLE.run(["project", cache, "--out", str(out), "--dimension", "4096"]) == 0
    assert "3 deltas" in capsys.readouterr().out
    with safe_open(out, framework="pt") as opened:
        small = F.normalize(opened.get_tensor("deltas"), dim=1)
        assert json.loads(opened.metadata()["ids"]) == ["a", "b", "c"]
    assert small.shape == (3, 4096)
    unit = F.normalize(directions(read_cache(store / "deltas")[1]).flatten(1), dim=1)
    # Three standard deviations of an inner product of unit vectors: sqrt(2 / 4096) each.
    torch.testing.assert_close(small @ small.mT, unit @ unit.mT, atol=0.067, rtol=0)
    assert float(small[0] @ small[1]) < 0.9 < float(small[0] @ small[2])
    assert CONSOLE.run(["project", cache, "--out", str(tmp_path / "x.npy")]) == 2
    assert "suffix: expected .safetensors, got '.npy'" in capsys.readouterr().err
