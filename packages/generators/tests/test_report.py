"""The report's pictures: readable with many teachers, possible with few, without side effects."""

import os
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.plot_style import COLOURS
from llgbm.generators.evaluation.alignment import Point
from llgbm.generators.evaluation.arms import ARM_WORDS, ARMS
from llgbm.generators.evaluation.results import Results
from llgbm.generators.report.plots import (
    accuracy_plot,
    alignment_plot,
    curves_plot,
    delta_map,
)


def texts(svg: str) -> list[str]:
    """Texts of a picture."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def height(svg: str) -> float:
    """Height of a picture, pt."""
    return float(re.search(r'height="([\d.]+)pt"', svg)[1])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 30])
def test_any_number_of_deltas_has_a_map(n) -> None:
    deltas = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    labels = [f"task{index // 2}" for index in range(n)]
    svg, silhouette = delta_map(deltas, labels, [False] * n)
    assert set(labels) <= set(texts(svg))
    assert (silhouette is None) == (n < 3)


def test_separate_tasks_have_silhouette_one_and_held_out_ones_are_named() -> None:
    deltas = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    labels = [label for label in "abc" for _ in range(4)]
    svg, silhouette = delta_map(deltas, labels, [label == "c" for label in labels])
    assert silhouette == pytest.approx(1.0)
    assert "c (held out)" in texts(svg)


def test_curves_of_one_task_share_an_entry_and_the_legend_fits() -> None:
    curves = {f"task{t}_{i}": [(1, 1.0), (2, 0.5)] for t in range(25) for i in range(4)}
    groups = {name: name.split("_")[0] for name in curves}
    svg = curves_plot(curves, "teachers", "nats", log=True, groups=groups)
    found = [text for text in texts(svg) if text.startswith("task")]
    assert sorted(found) == sorted(set(groups.values()))
    places = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>task\d+</text>', svg)]
    assert len(places) == 25
    assert max(places) < height(svg)


def test_more_names_than_colours_differ_in_their_lines() -> None:
    count = 2 * len(COLOURS)
    svg = curves_plot({str(i): [(s, i) for s in range(30)] for i in range(count)}, "t", "l")
    styles = re.findall(r'<path[^>]*style="(fill: none; stroke[^"]*1\.5[^"]*)"', svg)
    assert len(set(styles)) == count


def test_no_curves_draw_an_empty_panel_without_a_warning(recwarn) -> None:
    assert curves_plot({}, "nothing", "l").startswith("<svg")
    assert not recwarn.list


def test_both_splits_share_their_scale_and_the_first_arm_is_on_top() -> None:
    arms = {"base": Interval(0.3, 0.2, 0.4, 9), "teacher": Interval(0.6, 0.5, 0.7, 9)}
    others = {"base": Interval(0.1, 0.05, 0.15, 9), "teacher": Interval(0.9, 0.85, 0.95, 9)}
    results = Results("", {}, {"seen": arms, "held_out_family": others}, {}, {}, {}, {}, {})
    svg = accuracy_plot(results)
    place = {
        words: float(re.search(rf'y="([\d.]+)"[^>]*>{re.escape(words)}', svg)[1])
        for words in ("base model", "teacher (oracle)")
    }
    assert place["base model"] < place["teacher (oracle)"]
    ticks = [text for text in texts(svg) if re.fullmatch(r"0\.\d+", text)]
    assert ticks
    assert ticks[: len(ticks) // 2] == ticks[len(ticks) // 2 :]


def test_alignment_names_every_arm_and_needs_no_points(recwarn) -> None:
    points = [Point("t", arm, 0.1 * place, -0.05 * place) for place, arm in enumerate(ARMS)]
    svg = alignment_plot(points)
    assert {ARM_WORDS[arm].replace("-", "\u2212") for arm in ARMS} <= {
        text.replace("-", "\u2212") for text in texts(svg)
    }
    places = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>generated', svg)]
    assert max(places) < height(svg)
    assert alignment_plot([]).startswith("<svg")
    assert not recwarn.list


def test_the_same_data_gives_the_same_picture() -> None:
    deltas = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    first, second = (delta_map(deltas, list("aaabbbccc"), [False] * 9) for _ in range(2))
    assert first == second


def test_drawing_leaves_the_callers_settings_alone() -> None:
    before = dict(mpl.rcParams)
    curves_plot({"a": [(1, 1.0)]}, "t", "l")
    assert dict(mpl.rcParams) == before


def test_pictures_need_no_home_and_leave_no_folder_behind(tmp_path) -> None:
    left = tmp_path / "tmp"
    left.mkdir()
    (tmp_path / "file").touch()
    code = (
        "from llgbm.generators.report.plots import curves_plot\n"
        "curves_plot({'a': [(1, 1)]}, '', '')"
    )
    home = str(tmp_path / "file" / "home")  # below a file: not even root can make it
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MPL", "XDG"))}
    environment |= {"HOME": home, "TMPDIR": str(left)}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(left.glob("*matplotlib*"))
