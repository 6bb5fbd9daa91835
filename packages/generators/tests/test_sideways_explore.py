"""What is looked for in the latent space is better as predicted, and is measured for real."""

import json
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.deltas.errors import RunError, SettingError
from llgbm.generators.cli import CONSOLE
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Anchored, concatenate
from llgbm.generators.sideways.explore.arms import FrontArms
from llgbm.generators.sideways.explore.find_front import FrontSearch, find_candidates, find_front
from llgbm.generators.sideways.explore.front import (
    hypervolume,
    reference_point,
    spread_over_front,
    undominated,
)
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.explore.meter import FilesMeter
from llgbm.generators.sideways.explore.paths import (
    latent_of,
    latent_path,
    place_of,
    straight_path,
    through_ends,
)
from llgbm.generators.sideways.explore.proposals import measure_blocks, measure_latents
from llgbm.generators.sideways.explore.search import climb, evolve, to_target

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(POINTS)
@settings(max_examples=60, deadline=None)
def test_fronts_and_volumes_are_those_of_counting(points) -> None:
    table = torch.tensor(points, dtype=torch.float32)
    front = undominated(table)
    for index, point in enumerate(points):
        beaten = any(
            other[0] >= point[0] and other[1] >= point[1] and other != point for other in points
        )
        first = points.index(point) == index
        assert bool(front[index]) == (not beaten and first)
    cells = sum(any(x < a and y < b for a, b in points) for x in range(6) for y in range(6))
    assert hypervolume(table, torch.zeros(2)) == pytest.approx(cells)


def test_the_reference_lies_below_the_front_and_spreading_takes_the_largest_share() -> None:
    points = torch.tensor([[0.0, 10.0], [5.0, 5.0], [10.0, 0.0], [1.0, 1.0]])
    reference = reference_point(points)
    assert reference.tolist() == [-1.0, -1.0]
    chosen = spread_over_front(points, reference, 2)
    assert chosen[0] == 1
    assert len(chosen) == 2
    assert 3 not in chosen
    assert set(spread_over_front(points, reference, 9)) == {0, 1, 2}
    # What lies below the reference adds nothing; one is named where nothing adds anything.
    low = torch.tensor([[5.0, 5.0], [20.0, -5.0], [-5.0, 20.0]])
    assert spread_over_front(low, reference, 3) == [0]
    assert len(spread_over_front(low[1:], reference, 3)) == 1


def test_latents_of_checkpoints_are_standard_in_their_own_space(quadratic_model) -> None:
    space = LatentSpace.of(quadratic_model)
    standard = space.to_standard(space.centres)
    torch.testing.assert_close(space.from_standard(standard), space.centres, atol=1e-4, rtol=1e-4)
    assert standard.mean(0).abs().max() < 1e-3
    assert space.nearest(space.centres[[7]]).tolist() == [7]
    drawn = space.sample(4000, torch.Generator().manual_seed(0))
    far = space.distance(drawn, space.mean[None])
    assert far.mean() == pytest.approx(0.5, abs=0.05)
    assert space.distance(drawn, drawn).abs().max() < 1e-6


def test_gradients_and_cma_climb(quadratic_model) -> None:
    best = quadratic_model.train_table.metrics[:, 0].max()
    objective = to_target(quadratic_model, [0], best[None], 0.1, 0.1)
    start = Anchored.training(quadratic_model).select([0])
    with torch.no_grad():
        before = float(objective(start)[0])
        after = float(objective(climb(start, objective, 80))[0])
        evolved = float(objective(evolve(start, objective, 10, seed=0))[0])
    assert after > before
    assert evolved > before


@pytest.mark.parametrize("latents", ["both", "sampled", "optimised"])
def test_proposals_spread_along_a_front(latents, quadratic_model) -> None:
    aims = Aims.of(quadratic_model, (), ())
    search = FrontSearch(proposals=5, samples=256, latents=latents)
    found = find_front(quadratic_model, aims, search)
    with torch.no_grad():
        predicted = found.predict(quadratic_model)[0]
    assert len(found) == 5
    assert float(predicted[:, 0].max() - predicted[:, 0].min()) > float(
        quadratic_model.train_table.metrics[:, 0].std()
    )


def test_proposals_dominate_more_than_interpolation_when_measured(
    quadratic_model, quadratic_evaluator
) -> None:
    aims = Aims.of(quadratic_model, (), ())
    meter = FilesMeter(quadratic_evaluator, aims.names)
    search = FrontSearch(proposals=4, samples=256)
    arms = FrontArms(quadratic_model, aims, 4)
    found = find_candidates(quadratic_model, aims, search)
    assert [len(each) for each in found] == [4, 4, 4]
    bold, cautious, near = (float(each.distance().mean()) for each in found)
    assert max(cautious, near) < bold
    torch.testing.assert_close(found[0].z, find_front(quadratic_model, aims, search).z)
    tried = concatenate(found)
    measured = measure_latents(quadratic_model, tried, meter)
    chosen = arms.best(measured)
    # One after another is not quite the best four.
    best = arms.volume([measured[row] for row in chosen])
    assert 0.97 * max(map(arms.volume, combinations(measured, 4))) <= best
    between = measure_blocks(meter, arms.read(arms.between(12)))
    assert len(between) > 4
    half_way = arms.volume(between[:4])
    assert arms.volume([between[row] for row in arms.best(between)]) >= half_way
    assert arms.volume(measured[:4]) > half_way
    random = arms.volume(measure_blocks(meter, arms.random(0)))
    assert best > half_way > random
    volumes = {
        name: arms.volume(measure_blocks(meter, read()))
        for name, read in arms.baselines(found[0], 0).items()
    }
    assert len(volumes) == 5
    # What is in the training table is what measuring gives.
    front = [mixture[0][0] for mixture in arms.checkpoints()]
    records = [quadratic_model.collection.checkpoints[place].metrics for place in front]
    assert volumes["training checkpoints"] == pytest.approx(arms.volume(records), rel=1e-3)
    assert volumes["random latents"] == pytest.approx(random)


def test_an_anchor_is_itself_and_its_metrics_are_known(quadratic_model) -> None:
    places = quadratic_model.split.places(quadratic_model.collection, "train")
    one, two = places[3], places[-1]
    anchors = Anchored.at(quadratic_model, [((one, 1.0),), ((one, 0.25), (two, 0.75))])
    first, last = (quadratic_model.collection.weights(place) for place in (one, two))
    for name, value in anchors.weights(quadratic_model).items():
        torch.testing.assert_close(value[0], first[name])
        torch.testing.assert_close(value[1], 0.25 * first[name] + 0.75 * last[name])
    mean, error = anchors.predict(quadratic_model)
    torch.testing.assert_close(mean[0], quadratic_model.train_table.metrics[3])
    # What was measured is sure, what is between is not, what is far away is least so.
    assert (error[0] < 1e-4).all()
    assert (error[1] > 10 * error[0]).all()
    far = anchors.moved(anchors.z + 3).predict(quadratic_model)
    assert (far[1][:, 0] > error[:, 0]).all()
    seen = quadratic_model.train_table.metrics
    assert (far[0] <= seen.amax(0) + 1e-5).all()
    assert (far[0] >= seen.amin(0) - 1e-5).all()
    # A search sees beyond, or nothing would lead it there.
    beyond = anchors.moved(anchors.z + 3).predict(quadratic_model, bounded=False)[0]
    assert not torch.allclose(beyond, far[0])
    every = Anchored.training(quadratic_model)
    torch.testing.assert_close(every.select([3]).z, anchors.z[:1], atol=1e-5, rtol=1e-4)
    record = quadratic_model.collection.checkpoints[one]
    assert anchors.names(quadratic_model)[0] == {f"{record.run}/{record.step}": 1.0}
    moved = anchors.moved(anchors.z + 0.3)
    change = quadratic_model.weights(moved.z), quadratic_model.weights(anchors.z)
    for name, value in moved.weights(quadratic_model).items():
        expected = first[name] + (change[0][name][0] - change[1][name][0])
        torch.testing.assert_close(value[0], expected.detach())


def test_minimised_metrics_are_turned(quadratic_model) -> None:
    aims = Aims.of(quadratic_model, ("gain", "retention"), ("retention",))
    picked = aims.pick(torch.tensor([[1.0, 2.0]]))
    assert picked.tolist() == [[1.0, -2.0]]
    assert aims.turn_back(picked).tolist() == [[1.0, 2.0]]
    for words in (("loss",), ()), (("gain",), ()), (("gain", "retention"), ("loss",)):
        with pytest.raises(SettingError, match="metrics: expected"):
            Aims.of(quadratic_model, *words)


def test_ways_begin_and_end_at_the_checkpoints(quadratic_model) -> None:
    places = place_of(quadratic_model, "run_03/10"), place_of(quadratic_model, "run_12")
    first, last = (quadratic_model.collection.weights(place) for place in places)
    z = latent_path(*(latent_of(quadratic_model, place) for place in places), 5)
    way, straight = through_ends(quadratic_model, z, first, last), straight_path(first, last, 5)
    for blocks in (way, straight):
        for name, value in blocks.items():
            torch.testing.assert_close(value[0], first[name], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(value[-1], last[name], atol=1e-6, rtol=1e-5)
    middle = (first["one.weight"] + last["one.weight"]) / 2
    torch.testing.assert_close(straight["one.weight"][2], middle)


@pytest.mark.parametrize("name", ["run_99", "run_03/11", "nonsense/", ""])
def test_unknown_checkpoints_are_named(name, quadratic_model) -> None:
    with pytest.raises(SettingError, match="checkpoint: expected RUN"):
        place_of(quadratic_model, name)


def run(*words: object) -> int:
    return CONSOLE.run(["sideways", *map(str, words)])


def test_every_command_measures_what_it_decodes(
    quadratic_model, quadratic_evaluator, tmp_path, capsys
) -> None:
    model = quadratic_model.folder
    measured = ["--evaluate", "--evaluator", quadratic_evaluator]
    assert run("predict", model) == 0
    file = quadratic_model.collection.folder / quadratic_model.collection.checkpoints[0].file
    assert run("predict", model, "--checkpoints", file) == 0
    assert "ridge on weight statistics" in capsys.readouterr().out
    front = tmp_path / "front"
    words = [
        "--search.proposals",
        3,
        "--search.samples",
        64,
        "--search.tried",
        2,
        "--baselines",
        *measured,
    ]
    assert run("pareto", model, "--out", front, *words) == 0
    said = capsys.readouterr().out
    for name in ("proposals, measured", "weight interpolation", "model soups", "random latents"):
        assert f"hypervolume, {name}" in said
    noted = json.loads((model / "results" / "pareto.json").read_text())
    for each in noted["proposals"]:
        gap = each["predicted"]["gain"] - each["measured"]["gain"]
        assert each["predicted_minus_measured"]["gain"] == pytest.approx(gap)
    meter = FilesMeter(quadratic_evaluator, ["gain", "retention"])
    from safetensors.torch import load_file

    blocks = load_file(front / "000" / "checkpoint.safetensors")
    real = meter.measure({name: value[None] for name, value in blocks.items()})[0]
    assert noted["proposals"][0]["measured"] == pytest.approx(real, abs=1e-6)
    assert run("pareto", model, "--out", front, *words) == 2
    assert run("pareto", model, "--out", front, "--overwrite", "--search.proposals", 2) == 0
    assert (
        run("init", model, "gain=-0.2", "--out", tmp_path / "start", "--baselines", *measured) == 0
    )
    said = capsys.readouterr().out
    for name in ("nearest checkpoint", "weight interpolation", "model soup", "random latent"):
        assert f"{name}, measured: gain" in said
    assert run("init", model, "gain=-0.2", "--out", tmp_path / "other") == 0
    assert "nearest training checkpoint, measured: run_" in capsys.readouterr().out
    assert (tmp_path / "start" / "start" / "checkpoint.safetensors").exists()
    words = ["run_01", "run_02/20", "--steps", 3, "--out", tmp_path / "path", *measured]
    assert run("interpolate", model, *words) == 0
    assert len(list((tmp_path / "path").iterdir())) == 4
    (tmp_path / "mine").mkdir()
    assert run("interpolate", model, *words[:5], tmp_path / "mine", "--overwrite") == 2
    assert run("trajectory", model, "run_01", "--hyperparameters", "lr=0.1") == 0
    noted = json.loads((model / "results" / "trajectory.json").read_text())
    assert [row["step"] for row in noted["points"]] == [10, 20, 30, 40, 50]
    assert all(row["measured"] is None for row in noted["points"])
    assert run("report", model) == 0
    page = (model / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http://www.w3.org", "")
    for words in ("predicted − measured", "ridge on weight statistics", "From run_01 to run_02/20"):
        assert words in page
    way = json.loads((model / "results" / "interpolate.json").read_text())["ways"]["weights"]
    gap = way["predicted"][1]["gain"] - way["measured"][1]["gain"]
    assert f"<td>{gap:+.3f}</td>" in page


def test_a_trajectory_of_the_runs_own_settings_shows_what_was_measured(quadratic_model) -> None:
    assert run("trajectory", quadratic_model.folder, "run_01/20") == 0
    path = quadratic_model.folder / "results" / "trajectory.json"
    rows = json.loads(path.read_text())["points"]
    assert [row["step"] for row in rows] == [20, 30, 40, 50]
    assert all(row["measured"]["gain"] < 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init", "gain"], "expected gain=NUMBER"),
        (["init", "loss=1"], "expected one of"),
        (["init", "gain=inf"], "finite"),
        (["trajectory", "run_01/50"], "before the last"),
        (["trajectory", "run_01", "--hyperparameters", "speed=1"], "expected one of"),
        (["interpolate", "run_01", "nobody"], "checkpoint: expected RUN"),
        (["pareto", "--metrics", "gain"], "expected 2 to 4"),
        (["pareto", "--evaluate"], "--evaluator"),
        (["pareto", "--evaluator", "true"], "{checkpoint}"),
        (["pareto", "--baselines"], "--evaluator"),
        (["pareto", "--evaluator", "x '{checkpoint}"], "expected words"),
        (["interpolate", "run_01", "run_02", "--evaluate"], "--evaluator"),
        (["predict", "--checkpoints", "nothing.safetensors"], "nothing.safetensors"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    words, said, quadratic_model, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words[0], quadratic_model.folder, *words[1:]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert not list(tmp_path.iterdir())


def test_an_evaluator_that_fails_is_told(tmp_path) -> None:
    import sys

    blocks = {"w": torch.ones(1, 2)}
    for script, said in (
        ("import sys; print('x', file=sys.stderr); sys.exit(3)", "exit status 3: x"),
        ("print('no json')", "no json"),
        ("print('{}')", "last line of JSON"),
        ("print('{\"gain\": NaN}')", "gain: expected a finite number"),
    ):
        path = tmp_path / "e.py"
        path.write_text(script)
        meter = FilesMeter(f"{sys.executable} {path} {{checkpoint}}", ["gain"])
        with pytest.raises(RunError, match=said):
            meter.measure(blocks)
    with pytest.raises(RunError, match="evaluator: no-such-program"):
        FilesMeter("no-such-program {checkpoint}", ["gain"]).measure(blocks)
