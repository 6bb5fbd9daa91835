"""The latent space: blocks come back, unseen runs are predicted, files are checked."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.deltas.errors import RunError, SettingError
from llgbm.generators.sideways.agreement import agreements
from llgbm.generators.sideways.baselines import BASELINES
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.model import basis as basis_file
from llgbm.generators.sideways.model.basis import fit_basis, read_all
from llgbm.generators.sideways.model.config import SidewaysSizes, SidewaysTraining
from llgbm.generators.sideways.model.files import load_sideways
from llgbm.generators.sideways.model.loss import sideways_terms, weighted
from llgbm.generators.sideways.model.metric_scale import MetricScale
from llgbm.generators.sideways.model.scales import Scale
from llgbm.generators.sideways.predict import OURS, agreement_on_test_runs
from llgbm.generators.sideways.train import (
    SidewaysTrainConfig,
    fit_sideways,
    moved_errors,
    train_sideways,
)

SIZES = SidewaysSizes(latent_dim=3, directions=6, width=16, members=2)


def test_a_basis_with_all_directions_gives_checkpoints_back(quadratic_collection) -> None:
    places = list(range(0, 75, 9))
    basis = fit_basis(quadratic_collection, places, k=100)
    assert basis.k == len(places) - 1
    coefficients, _ = read_all(basis, quadratic_collection, places)
    written = basis.write(coefficients)
    for row, place in enumerate(places):
        weights = quadratic_collection.weights(place)
        for name, value in weights.items():
            # The ridge on a block's directions leaves a thousandth of what they miss.
            torch.testing.assert_close(written[name][row], value, atol=3e-3, rtol=0)


def test_a_mixture_of_checkpoints_has_the_mixture_of_their_coefficients(
    quadratic_collection,
) -> None:
    basis = fit_basis(quadratic_collection, list(range(30)), k=5)
    first, last = (quadratic_collection.weights(place) for place in (40, 61))
    middle = {name: (value + last[name]) / 2 for name, value in first.items()}
    mean = (basis.read(first)[0] + basis.read(last)[0]) / 2
    # The ridge's inverse, a thousand, times the rounding of the mixture itself.
    torch.testing.assert_close(basis.read(middle)[0], mean, atol=1e-4, rtol=1e-4)


def test_a_small_memory_takes_some_checkpoints_of_every_run(
    quadratic_collection, monkeypatch
) -> None:
    size = 4 * sum(block.numel for block in quadratic_collection.blocks)
    monkeypatch.setattr(basis_file, "MEMORY", 20 * size)
    read: list[int] = []
    whole = type(quadratic_collection).weights

    def counted(self, place):
        read.append(place)
        return whole(self, place)

    monkeypatch.setattr(type(quadratic_collection), "weights", counted)
    fit_basis(quadratic_collection, list(range(75)), k=4)
    runs = {quadratic_collection.checkpoints[place].run for place in read}
    assert len(read) <= 20
    assert len(runs) == 15
    # The end of every run, and other steps.
    steps = [quadratic_collection.checkpoints[place].step for place in read]
    assert steps.count(50) == 15
    assert len(set(steps)) > 1


def test_directions_do_not_depend_on_how_much_is_worked_on_at_once(
    quadratic_collection, monkeypatch, capsys
) -> None:
    places = list(range(30))
    whole = fit_basis(quadratic_collection, places, k=5)
    monkeypatch.setattr(basis_file, "COLUMNS", 5)
    parts = fit_basis(quadratic_collection, places, k=5)
    for name, value in whole.directions.items():
        torch.testing.assert_close(parts.directions[name].abs(), value.abs(), atol=1e-4, rtol=1e-3)
    assert not capsys.readouterr().out
    size = 4 * sum(block.numel for block in quadratic_collection.blocks)
    monkeypatch.setattr(basis_file, "MEMORY", 4 * size)
    assert fit_basis(quadratic_collection, places, k=5).k == 3
    assert "directions: 3 in place of 5" in capsys.readouterr().out


def test_blocks_count_alike_whatever_their_size(quadratic_collection, monkeypatch) -> None:
    places = list(range(30))
    plain = fit_basis(quadratic_collection, places, k=5)
    whole = type(quadratic_collection).weights

    def larger(self, place):
        found = whole(self, place)
        return {**found, "one.weight": 1000 * found["one.weight"]}

    monkeypatch.setattr(type(quadratic_collection), "weights", larger)
    scaled = fit_basis(quadratic_collection, places, k=5)
    for name in ("one.bias", "scale"):
        found, expected = scaled.directions[name].abs(), plain.directions[name].abs()
        # Signs of singular vectors are anybody's; float32 sums of numbers a thousand times larger.
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_gradients_of_large_metrics_are_finite() -> None:
    values = torch.cat([torch.full((10,), 1.0), torch.linspace(80, 100, 90)])[:, None]
    scale = MetricScale(1)
    scale.fit(values)
    standardised = scale(values).requires_grad_()
    scale.back(standardised).sum().backward()
    assert standardised.grad is not None
    assert standardised.grad.isfinite().all()


def test_training_replaces_nothing_but_a_model(quadratic_collection, tmp_path) -> None:
    training = SidewaysTraining(steps=2, sizes=SIZES)
    home = quadratic_collection.folder
    for out in (home, home.parent):
        config = SidewaysTrainConfig(home, out, training, overwrite=True)
        with pytest.raises(RunError, match="without the collection in it"):
            train_sideways(config)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(RunError, match="a sideways model to overwrite"):
        train_sideways(SidewaysTrainConfig(home, tmp_path / "mine", training, overwrite=True))
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_a_collection_that_changed_is_told(quadratic_collection, tmp_path) -> None:
    home = tmp_path / "collection"
    shutil.copytree(quadratic_collection.folder, home, ignore=shutil.ignore_patterns("model"))
    fit_sideways(Collection.read(home), home / "model", SidewaysTraining(steps=2, sizes=SIZES))
    index = json.loads((home / "collection.json").read_text())
    index["checkpoints"][3]["metrics"]["gain"] *= -7
    (home / "collection.json").write_text(json.dumps(index))
    with pytest.raises(RunError, match="train again"):
        load_sideways(home / "model")


def test_too_few_checkpoints_are_told(quadratic_collection, tmp_path) -> None:
    one = [places[0] for places in list(quadratic_collection.runs.values())[:3]]
    few = replace(
        quadratic_collection,
        checkpoints=tuple(quadratic_collection.checkpoints[place] for place in one),
    )
    with pytest.raises(RunError, match="checkpoints to train on: expected at least 2, got 1"):
        fit_sideways(few, tmp_path / "model", SidewaysTraining(steps=2, sizes=SIZES))


def test_scales_leave_what_never_changes_alone() -> None:
    scale = Scale(2)
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    scale.fit(values)
    found = scale(values)
    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert torch.equal(scale.back(found), values)


@given(st.lists(st.floats(-50, 50), min_size=4, max_size=30))
@settings(max_examples=60, deadline=None)
def test_metrics_are_bent_and_straightened_back(values) -> None:
    table = torch.tensor(values)[:, None]
    scale = MetricScale(1)
    scale.fit(table)
    found = scale(table)
    assert found.isfinite().all()
    # Float32 twice through exponentials of up to its 17 binary orders.
    torch.testing.assert_close(scale.back(found), table, atol=2e-3, rtol=2e-3)
    order = table[:, 0].argsort()
    assert (found[order, 0].diff() >= -1e-4).all()


def test_orders_of_magnitude_come_out_evenly() -> None:
    scale = MetricScale(2)
    losses = -torch.logspace(-3, 1, 41)
    scale.fit(torch.stack([losses, torch.linspace(0, 1, 41)], dim=1))
    bent = scale(torch.stack([losses, torch.linspace(0, 1, 41)], dim=1))
    for column in bent.T:
        steps = column.diff().abs()
        assert steps.max() < 8 * steps.min()
    assert bent.mean(0).abs().max() < 1e-5
    assert (bent.std(0, unbiased=False) - 1).abs().max() < 1e-5


def test_metrics_of_unseen_runs_are_predicted_better_than_by_their_mean(quadratic_model) -> None:
    found = agreement_on_test_runs(quadratic_model)
    assert set(found) == {OURS, *BASELINES}
    for metric in ("gain", "retention"):
        assert found[OURS][metric].r2 > 0.8
        assert found[OURS][metric].rank_correlation > 0.9
        assert found["mean"][metric].r2 <= 0
        assert found["mean"][metric].rank_correlation is None


def test_errors_of_trajectories_are_those_of_runs_that_were_not_trained_on(
    quadratic_model,
) -> None:
    vae, table = quadratic_model.vae, quadratic_model.table("validation")
    with torch.no_grad():
        missed = moved_errors(vae, table)
        torch.testing.assert_close(
            vae.predictor.left_out_moved, missed.square().mean(0).sqrt(), atol=1e-4, rtol=1e-3
        )
        z = quadratic_model.centres(table)
        plain, moved = vae.predictor(z)[1], vae.predictor(z, moved=True)[1]
    wider = vae.predictor.left_out_moved > vae.predictor.left_out
    assert ((moved > plain) == wider).all()
    runs = table.by_run()
    assert len(missed) == len(table.runs) - len(runs)


def test_the_dynamics_move_nearer_to_where_unseen_runs_go(quadratic_model) -> None:
    table = quadratic_model.table("test")
    ours, still = [], []
    for rows in table.by_run().values():
        z = quadratic_model.centres(table.select([rows[0]]))
        numbers = quadratic_model.vae.hyperparameter_scale(table.hyperparameters[rows[:1]])
        moved = quadratic_model.vae.dynamics.roll_out(z, numbers, table.time[rows].tolist())
        end = quadratic_model.vae.predict(moved[0, -1:])[0]
        ours.append((end - table.metrics[rows[-1:]]).abs())
        still.append((table.metrics[rows[:1]] - table.metrics[rows[-1:]]).abs())
    assert torch.cat(ours).mean(0).lt(torch.cat(still).mean(0)).all()


def test_decoded_checkpoints_have_about_the_weights_they_are_read_from(quadratic_model) -> None:
    table = quadratic_model.table("test")
    z = quadratic_model.centres(table)
    weights = quadratic_model.weights(z)
    places = quadratic_model.split.places(quadratic_model.collection, "test")
    real = torch.stack(
        [quadratic_model.collection.weights(place)["one.weight"] for place in places]
    )
    mean = quadratic_model.basis.mean["one.weight"]
    missed = (weights["one.weight"] - real).square().mean()
    assert missed < 0.2 * (real - mean).square().mean()


def test_every_term_reaches_its_part_and_weights_count(quadratic_model) -> None:
    vae, table = quadratic_model.vae, quadratic_model.table("train")
    training = SidewaysTraining()
    members = torch.ones(3, len(table.runs))
    terms = sideways_terms(vae, table, members, 0.1, torch.Generator().manual_seed(0))
    assert set(terms) == {"metric", "recon", "kl", "dynamics"}
    parts = {
        "metric": vae.predictor,
        "recon": vae.decoder,
        "kl": vae.encoder,
        "dynamics": vae.dynamics,
    }
    for name, part in parts.items():
        parameters = list(part.parameters())
        moved = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
        assert any(each is not None and bool(each.any()) for each in moved), name
    weights = training.weights
    expected = (
        terms["metric"]
        + weights.recon * terms["recon"]
        + weights.beta * terms["kl"]
        + weights.dynamics * terms["dynamics"]
    )
    torch.testing.assert_close(weighted(terms, weights), expected)


def test_the_same_seed_gives_the_same_model(quadratic_collection, tmp_path) -> None:
    training = SidewaysTraining(steps=5, sizes=SIZES)
    first, again = (
        fit_sideways(quadratic_collection, tmp_path / name, training) for name in ("a", "b")
    )
    other = fit_sideways(
        quadratic_collection, tmp_path / "c", SidewaysTraining(steps=5, sizes=SIZES, seed=1)
    )
    states = [each.vae.state_dict() for each in (first, again, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_a_model_is_not_replaced_unasked(quadratic_collection, tmp_path) -> None:
    training = SidewaysTraining(steps=2, sizes=SIZES)
    config = SidewaysTrainConfig(quadratic_collection.folder, tmp_path / "model", training)
    train_sideways(config)
    with pytest.raises(RunError, match="give --overwrite"):
        train_sideways(config)


def test_a_fit_that_fails_leaves_the_model_that_was_there(quadratic_collection, tmp_path) -> None:
    folder = tmp_path / "model"
    wild = SidewaysTraining(steps=5, lr=1e12, sizes=SIZES)
    with pytest.raises(RunError, match="expected a finite loss"):
        fit_sideways(quadratic_collection, folder, wild)
    assert not list(tmp_path.iterdir())
    fit_sideways(quadratic_collection, folder, SidewaysTraining(steps=2, sizes=SIZES))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunError, match="expected a finite loss"):
        fit_sideways(quadratic_collection, folder, wild)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_damaged_models_are_refused(quadratic_collection, tmp_path) -> None:
    folder = tmp_path / "model"
    fit_sideways(quadratic_collection, folder, SidewaysTraining(steps=2, sizes=SIZES))
    for file in ("basis.safetensors", "sideways.safetensors"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError, match=file):
            load_sideways(folder)
        (folder / file).write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    config["metadata"]["split"]["test"] = ["another"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="train again"):
        load_sideways(folder)


def test_agreement_is_the_textbooks() -> None:
    predicted, measured = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [3.0], [5.0]])
    found = agreements(predicted, measured, ["m"], torch.log)["m"]
    assert found.r2 == pytest.approx(1 - 2 / 8)
    logs = np.log([[1.0, 2.0, 4.0], [1.0, 3.0, 5.0]])
    missed = ((logs[0] - logs[1]) ** 2).sum()
    assert found.r2_bent == pytest.approx(1 - missed / ((logs[1] - logs[1].mean()) ** 2).sum())
    assert found.rank_correlation == pytest.approx(1.0)
    assert found.error == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "words",
    [{"width": 30}, {"width": 0}, {"latent_dim": 0}, {"directions": 0}, {"members": 1}],
)
def test_sizes_that_cannot_be_are_refused(words) -> None:
    with pytest.raises(SettingError):
        SidewaysSizes(**words)
