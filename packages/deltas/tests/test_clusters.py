"""Silhouettes and maps of deltas, and the statistics command that shows them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.cluster_plot import save_delta_map
from llgbm.deltas.clusters import cosine_distances, delta_map, delta_silhouette
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.task_labels import task_of, tasks_of


def grouped(groups: int, each: int, noise: float = 0.1) -> tuple[torch.Tensor, list[str]]:
    """Deltas [N, 2, 10] around directions of their own, and their labels."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.linalg.qr(torch.randn(20, groups, generator=generator))[0].mT
    around = noise * torch.randn(groups, each, 20, generator=generator)
    deltas = (centres[:, None] + around).view(-1, 2, 10)
    return deltas, [f"task{index // each}" for index in range(groups * each)]


def test_distances_are_clipped_cosines() -> None:
    deltas = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    distances = cosine_distances(deltas)
    half = 1 - 0.5**0.5
    expected = np.array(
        [
            [0, 0, half, 1, 1],
            [0, 0, half, 1, 1],
            [half, half, 0, 1, 1],
            [1, 1, 1, 0, 1],
            [1, 1, 1, 1, 0],
        ]
    )
    np.testing.assert_allclose(distances, expected, atol=1e-12)


def test_a_silhouette_is_the_mean_of_its_definition() -> None:
    deltas, labels = grouped(3, 4, noise=0.3)
    distances = cosine_distances(deltas)
    values = []
    for i, label in enumerate(labels):
        near = [distances[i, j] for j in range(12) if j != i and labels[j] == label]
        far = [
            np.mean([distances[i, j] for j in range(12) if labels[j] == other])
            for other in set(labels) - {label}
        ]
        a, b = np.mean(near), min(far)
        values.append((b - a) / max(a, b))
    assert delta_silhouette(deltas, labels) == pytest.approx(np.mean(values), abs=1e-9)
    assert delta_silhouette(deltas, labels) > 0.2
    mixed = labels[::3] + labels[1::3] + labels[2::3]
    assert delta_silhouette(deltas, mixed) < 0


@pytest.mark.parametrize("labels", [["a"] * 4, ["a", "b", "c", "d"], ["a", "b"]])
def test_labels_without_clusters_are_refused(labels) -> None:
    with pytest.raises(SettingError, match="labels: expected"):
        delta_silhouette(torch.randn(4, 3), labels)


def test_a_map_is_seeded_and_keeps_groups_together() -> None:
    deltas, labels = grouped(3, 6)
    points = delta_map(deltas, seed=1)
    assert points.shape == (18, 2)
    assert points.dtype == np.float32
    assert np.array_equal(points, delta_map(deltas, seed=1))
    assert not np.array_equal(points, delta_map(deltas, seed=2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert [labels[i] for i in distances.argmin(1)] == labels


def test_what_cannot_be_mapped_is_named(tmp_path) -> None:
    with pytest.raises(SettingError, match="at least 3 for a map, got 2"):
        delta_map(torch.ones(2, 4))
    with pytest.raises(SettingError, match="finite"):
        delta_map(torch.full((4, 4), torch.nan))
    with pytest.raises(SettingError, match=r"suffix: expected .png or .svg or .pdf, got '.gif'"):
        save_delta_map(tmp_path / "a.gif", np.zeros((3, 2), np.float32), ["a"] * 3)


@pytest.mark.parametrize(
    ("adapter_id", "task"),
    [
        ("arc_easy_007", "arc_easy"),
        ("arc_easy-7", "arc_easy"),
        ("mmlu_2_003", "mmlu_2"),
        ("boolq__a1", "boolq"),
        ("a1", None),
        ("007", None),
        ("boolq", None),
    ],
)
def test_ids_name_tasks(adapter_id, task) -> None:
    assert task_of(adapter_id) == task


def test_one_id_without_a_task_leaves_all_without() -> None:
    assert tasks_of(["a_1", "b_1"]) == ["a", "b"]
    assert tasks_of(["a_1", "b"]) is None


def write_cache(folder: Path, ids: list[str], deltas: torch.Tensor) -> None:
    cache = DeltaCache.open(folder, "base", ProbeSet(("p",)), DeltaSpec())
    cache.put({name: ("f", delta.numpy()) for name, delta in zip(ids, deltas, strict=True)})


@pytest.mark.parametrize(
    ("suffix", "opening"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_stats_prints_the_silhouette_and_draws_the_map(suffix, opening, tmp_path, capsys) -> None:
    deltas, labels = grouped(2, 3)
    write_cache(tmp_path / "c", [f"{label}_{i}" for i, label in enumerate(labels)], deltas)
    plot = tmp_path / f"map.{suffix}"
    assert CONSOLE.run(["stats", str(tmp_path / "c"), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert f"silhouette by task  {delta_silhouette(deltas, labels):.4f}  (2 tasks)" in printed
    assert plot.read_bytes().startswith(opening)


def test_stats_of_ids_without_tasks_says_so(tmp_path, capsys) -> None:
    write_cache(tmp_path / "c", ["x", "y", "z"], torch.randn(3, 4))
    assert CONSOLE.run(["stats", str(tmp_path / "c"), "--plot", str(tmp_path / "m.png")]) == 0
    assert "ids do not name two tasks" in capsys.readouterr().out
    assert (tmp_path / "m.png").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--plot", "m.gif"], "suffix: expected .png"),
        (["--plot", "m.png"], "at least 3 for a map, got 2"),
        (["--seed", "-1"], "seed: expected from 0"),
    ],
)
def test_bad_requests_are_one_line(more, words, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cache(tmp_path / "c", ["x", "y"], torch.ones(2, 4))
    assert CONSOLE.run(["stats", "c", *more]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "m.png").exists()
