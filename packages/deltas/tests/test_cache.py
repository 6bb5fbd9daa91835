import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.compute import compute_cache
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.errors import AdapterError, CacheError
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.statistics import delta_statistics

PROBES, SPEC = ProbeSet(("one", "another probe")), DeltaSpec(aggregation="per_probe")


@pytest.fixture
def adapters(make_tiny_model, make_weights, tmp_path) -> dict[str, Path]:
    weights = make_weights(make_tiny_model(), n=5)
    paths = {f"a{i}": tmp_path / "adapters" / f"a{i}" for i in range(5)}
    for index, path in enumerate(paths.values()):
        save_adapter(weights.select([index]), path)
    return paths


def fill(model, adapters, folder, **options):
    return compute_cache(
        model, adapters, folder, PROBES, SPEC, "tiny", 3, progress=False, **options
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix}


def test_only_what_is_missing_is_computed_and_it_equals_compute_delta(
    make_tiny_model, make_weights, adapters, tmp_path
) -> None:
    model, folder = make_tiny_model(), tmp_path / "cache"
    first = fill(model, dict(list(adapters.items())[:2]), folder)
    second = fill(model, adapters, folder)
    assert first.computed == ("a0", "a1")
    assert second.reused == ("a0", "a1")
    assert second.computed == ("a2", "a3", "a4")
    cache = DeltaCache.open(
        folder, json.loads((folder / "manifest.json").read_text())["base_fingerprint"], PROBES, SPEC
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    loaded = cache.load_all({n: e["fingerprint"] for n, e in manifest["adapters"].items()})
    with torch.no_grad():
        expected = compute_delta(model, make_weights(model, n=5), PROBES, SPEC)
    torch.testing.assert_close(loaded, expected, atol=1e-5, rtol=0)
    assert cache.get_base().shape == (2, 1, 32)


def test_a_second_run_from_nothing_gives_the_same_bits(make_tiny_model, adapters, tmp_path) -> None:
    for name in ("one", "two"):
        fill(make_tiny_model(), adapters, tmp_path / name)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_changed_adapter_and_a_damaged_delta_are_computed_again(
    make_tiny_model, make_weights, adapters, tmp_path
) -> None:
    model, folder = make_tiny_model(), tmp_path / "cache"
    fill(model, adapters, folder)
    before = files(folder)
    (folder / "a1.npy").write_bytes(before["a1.npy"][:50])
    save_adapter(make_weights(model, n=1, seed=9), adapters["a3"])
    assert fill(model, adapters, folder).computed == ("a1", "a3")
    assert files(folder)["a1.npy"] == before["a1.npy"]
    assert files(folder)["a3.npy"] != before["a3.npy"]


def test_an_interrupted_run_goes_on(make_tiny_model, adapters, tmp_path, monkeypatch) -> None:
    model, folder = make_tiny_model(), tmp_path / "cache"
    put, calls = DeltaCache.put, []

    def interrupted(self, deltas):
        if calls:
            raise KeyboardInterrupt
        calls.append(put(self, deltas))

    monkeypatch.setattr(DeltaCache, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(model, adapters, folder)
    monkeypatch.undo()
    summary = fill(model, adapters, folder)
    assert (len(summary.reused), len(summary.computed)) == (3, 2)
    assert not [path for path in folder.iterdir() if ".tmp-" in path.name]


def test_another_base_probes_or_spec_is_refused_and_rebuilt_on_request(
    make_tiny_model, adapters, tmp_path
) -> None:
    folder = tmp_path / "cache"
    fill(make_tiny_model(), adapters, folder)
    with pytest.raises(CacheError, match="base model: expected"):
        fill(make_tiny_model(seed=1), adapters, folder)
    base = json.loads((folder / "manifest.json").read_text())["base_fingerprint"]
    with pytest.raises(CacheError, match="probes: expected"):
        DeltaCache.open(folder, base, ProbeSet(("x",)), SPEC)
    with pytest.raises(CacheError, match="delta spec: expected"):
        DeltaCache.open(folder, base, PROBES, DeltaSpec())
    assert len(fill(make_tiny_model(seed=1), adapters, folder, rebuild=True).computed) == 5


@pytest.mark.parametrize("content", ["{", "{}", '{"format": 1}'])
def test_a_half_written_manifest_says_how_to_go_on(
    make_tiny_model, adapters, tmp_path, content
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CacheError, match="--rebuild"):
        fill(make_tiny_model(), adapters, folder)
    assert len(fill(make_tiny_model(), adapters, folder, rebuild=True).computed) == 5


def test_an_adapter_of_another_base_is_refused(make_tiny_model, make_weights, tmp_path) -> None:
    model = make_tiny_model()
    save_adapter(make_weights(model, n=1), tmp_path / "a", "other", "0" * 64)
    with pytest.raises(AdapterError, match="base model: expected tiny"):
        fill(model, {"a": tmp_path / "a"}, tmp_path / "cache")


def test_an_adapter_that_overflows_is_reported_and_not_stored(
    make_tiny_model, make_weights, tmp_path
) -> None:
    model = make_tiny_model()
    huge = make_weights(model, n=1).map(lambda factor: factor * 1e25)
    save_adapter(huge, tmp_path / "a")
    summary = fill(model, {"a": tmp_path / "a"}, tmp_path / "cache")
    assert summary.broken == ("a",)
    assert not (tmp_path / "cache" / "a.npy").exists()


CHILD = """
import sys, numpy as np
from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.probes import ProbeSet
cache = DeltaCache.open(sys.argv[1], "base", ProbeSet(("p",)), DeltaSpec())
for i in range(20):
    cache.put({f"{sys.argv[2]}{i}": ("f", np.full(4, i, dtype=np.float32))})
"""


def test_two_processes_share_a_cache(tmp_path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "c"), name])
        for name in ("x", "y")
    ]
    assert [child.wait() for child in children] == [0, 0]
    cache = DeltaCache.open(tmp_path / "c", "base", ProbeSet(("p",)), DeltaSpec())
    assert len(cache.ids()) == 40
    assert np.array_equal(cache.get("y7", "f"), np.full(4, 7, dtype=np.float32))
    assert cache.get("y7", "g") is None
    with pytest.raises(CacheError, match="nobody"):
        cache.load_all({"nobody": "f"})


def test_statistics_find_outliers_and_silent_adapters() -> None:
    deltas = torch.ones(9, 4) * torch.linspace(0.9, 1.1, 9)[:, None]
    deltas[3] *= 50
    deltas[5] = 0
    found = delta_statistics([f"a{i}" for i in range(9)], deltas, ("b",))
    assert "a3" in found.outliers
    assert found.silent == ("a5",)
    assert "outlier" in found.table()
    assert "broken" in found.table()


@pytest.fixture
def cache(tmp_path) -> DeltaCache:
    return DeltaCache.open(tmp_path / "c", "base", ProbeSet(("p",)), DeltaSpec())


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".", "base_activation"])
def test_an_id_that_is_no_file_of_its_own_is_refused(cache, name) -> None:
    words = f"adapter id: expected the name of a file, other than base_activation, got {name!r}"
    for act in (lambda: cache.put({name: ("f", np.ones(4))}), lambda: cache.get(name, "f")):
        with pytest.raises(CacheError, match=words):
            act()
    assert not list(cache.folder.parent.rglob("*.npy"))


def test_an_adapter_of_a_reserved_id_is_told_before_anything_is_computed(
    make_tiny_model, adapters, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("llgbm.deltas.compute.compute_delta", lambda *a: pytest.fail("computed"))
    with pytest.raises(CacheError, match="got 'base_activation'"):
        fill(make_tiny_model(), {"base_activation": adapters["a0"]}, tmp_path / "cache")


def test_a_delta_that_is_not_finite_is_not_stored(cache) -> None:
    good, bad = np.ones(4, dtype=np.float32), np.array([1, np.nan], dtype=np.float32)
    with pytest.raises(CacheError, match="b: expected finite values, got NaN or Inf"):
        cache.put({"a": ("f", good), "b": ("f", bad)})
    assert not list(cache.folder.glob("*.npy"))
    # Finite, though the sum of its squares is not in float32.
    cache.put({"c": ("f", 1e25 * good)})
    assert cache.ids() == ["c"]


def test_no_deltas_and_unlike_ones_are_not_loaded_together(cache) -> None:
    with pytest.raises(CacheError, match="expected at least one adapter to load, got none"):
        cache.load_all({})
    cache.put({name: ("f", np.ones(n, dtype=np.float32)) for name, n in (("a", 3), ("b", 4))})
    with pytest.raises(CacheError, match=r"b: shape: expected \(3,\), got \(4,\)"):
        cache.load_all({"a": "f", "b": "f"})


@pytest.mark.parametrize("entries", [{"x": 5}, [], None])
def test_entries_that_are_no_objects_are_named(cache, entries) -> None:
    file = cache.folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "adapters": entries}))
    with pytest.raises(CacheError, match="adapters: expected an object of objects, got") as caught:
        cache.get("x", "f")
    assert "--rebuild" in str(caught.value)
