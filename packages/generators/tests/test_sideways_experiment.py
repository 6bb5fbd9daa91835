"""The sideways experiment measures every arm on examples that nothing was chosen by."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from llgbm.deltas.errors import RunError
from llgbm.generators.sideways.adapters.measure import Observed
from llgbm.generators.sideways.experiment.fronts import PROPOSALS
from llgbm.generators.sideways.experiment.intervals import volume_intervals
from llgbm.generators.sideways.experiment.presets import SIDEWAYS_PRESETS, SidewaysPreset
from llgbm.generators.sideways.experiment.results import SidewaysResults
from llgbm.generators.sideways.experiment.run import (
    SidewaysExperimentConfig,
    run_sideways_experiment,
    summary,
)
from llgbm.generators.sideways.explore.arms import CHECKPOINTS
from llgbm.generators.sideways.model.config import SidewaysSizes, SidewaysTraining


@pytest.fixture
def config(tmp_path, tiny_adapter_runs):
    sizes = SidewaysPreset(
        replace(tiny_adapter_runs, runs=5, steps=6),
        SidewaysTraining(
            steps=20, sizes=SidewaysSizes(latent_dim=3, directions=4, width=16, members=2)
        ),
        seeds=(0, 1),
        proposals=3,
        path=3,
        start_steps=4,
    )
    return SidewaysExperimentConfig(tmp_path / "run", out=tmp_path / "results.json", sizes=sizes)


def test_the_experiment_answers_every_question_and_is_gone_on_with(
    config, make_tiny_model, tokenizer
) -> None:
    results = run_sideways_experiment(config, make_tiny_model(), tokenizer)
    assert SidewaysResults.read(config.out) == results
    assert set(results.seeds) == {"0", "1"}
    for seed in results.seeds.values():
        assert {CHECKPOINTS, PROPOSALS, "weight interpolation", "model soups"} <= set(seed.fronts)
        assert all(1 <= len(arm.measured) <= 3 for arm in seed.fronts.values())
        assert all(arm.hypervolume >= 0 for arm in seed.fronts.values())
        assert len(seed.fronts[PROPOSALS].measured) <= len(seed.gaps) <= 3 * 3
        assert len(seed.fronts) == 9
        assert set(seed.starts) == {"proposed start", "nearest checkpoint", "fresh start"}
        assert seed.starts["fresh start"].first["gain"] == pytest.approx(0, abs=1e-5)
        assert set(seed.ends) == {"latent dynamics", "last value", "mean curve"}
        assert [len(way) for way in seed.path.values()] == [3, 3]
        assert len(seed.trajectories) == 1
        for run, points in seed.trajectories.items():
            assert [each.step for each in points] == [2, 4, 6]
            # At its end it misses what the table of ends says, in the mean of one run.
            missed = abs(points[-1].predicted["gain"] - points[-1].measured["gain"])
            assert missed == pytest.approx(seed.ends["latent dynamics"]["gain"], rel=1e-4)
            steps = [each.metrics for each in seed.latents if each.part == "test"]
            assert steps == [each.measured for each in points], run
        assert Counter(each.part for each in seed.latents) == {
            "train": 9, "validation": 3, "test": 3
        }  # fmt: skip
        # Both ways begin and end at the same checkpoints.
        for place in (0, 2):
            first, second = (way[place] for way in seed.path.values())
            assert first["gain"] == pytest.approx(second["gain"], abs=1e-4)
    assert set(results.volumes) == {"0", "1", "mean"}
    for name, seed in results.seeds.items():
        for arm, found in results.volumes[name].items():
            assert found.volume.mean == pytest.approx(seed.fronts[arm].hypervolume, abs=1e-5)
            assert found.volume.low <= found.volume.high
    assert "hypervolume of proposals" in summary(results)
    stamp = (config.run / "model-0" / "finished.json").stat().st_mtime_ns
    again = run_sideways_experiment(config, make_tiny_model(), tokenizer)
    assert (config.run / "model-0" / "finished.json").stat().st_mtime_ns == stamp
    assert again.seeds == results.seeds
    assert again.volumes == results.volumes
    # Nothing was measured again but a collection that was there.
    assert again.seconds["seed 0"] == results.seconds["seed 0"]
    assert again.seconds["collect"] >= results.seconds["collect"]
    (config.run / "seed-1.json").write_text('{"seed": 3}')
    with pytest.raises(RunError, match=r"seed-1\.json: expected results of a seed"):
        run_sideways_experiment(config, make_tiny_model(), tokenizer)


def _observed(gained, lost) -> Observed:
    gained, lost = torch.tensor(gained), torch.tensor(lost)
    return Observed(gained, (gained > 0).float(), lost, torch.full((lost.shape[1],), 2))


def test_intervals_of_volumes_are_over_examples_that_all_arms_share() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.5 * torch.randn(1, 400, generator=generator)
    lost = (1.0 + 0.2 * torch.randn(1, 50, generator=generator)).tolist()
    # The better gains a tenth more on every example: sure, though what both gain is not.
    worse = _observed((1.0 + noise).tolist(), lost)
    better = _observed((1.1 + noise).tolist(), lost)
    reference = torch.tensor([0.0, -1.0])
    found = volume_intervals(
        {"0": {CHECKPOINTS: worse, PROPOSALS: better}}, {"0": reference}, seed=0
    )
    volume = found["0"][PROPOSALS].volume
    gain = float((1.1 + noise).mean())
    assert volume.mean == pytest.approx(gain * (1 - torch.tensor(lost).mean().item() / 2), rel=1e-5)
    # The standard error of a mean of 400 is about 1/20 of the spread, of one of 50 about 1/7.
    expected = (0.5 * 0.025) ** 2 + (1.1 * 0.1 * 0.14) ** 2
    assert (volume.high - volume.low) / 3.92 == pytest.approx(expected**0.5, rel=0.3)
    over = found["mean"][PROPOSALS].over[CHECKPOINTS]
    assert over.low > 0
    assert over.mean == pytest.approx(0.1 * volume.mean / gain, rel=1e-3)
    assert over.high - over.low < 0.2 * (volume.high - volume.low)
    assert list(found["0"][CHECKPOINTS].over) == []


def test_results_of_another_kind_are_refused(tmp_path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema": 1, "kind": "other"}))
    with pytest.raises(RunError, match="schema and kind"):
        SidewaysResults.read(path)
    path.write_text(json.dumps({"schema": 2, "kind": "sideways experiment", "seeds": 3}))
    with pytest.raises(RunError, match="expected a sideways experiment"):
        SidewaysResults.read(path)


def test_the_small_preset_has_the_checkpoints_that_are_asked_of_it() -> None:
    runs = SIDEWAYS_PRESETS["small"].runs
    assert runs.runs >= 12
    assert runs.runs * runs.steps // runs.keep_every >= 100
    assert len(SIDEWAYS_PRESETS["small"].seeds) == 3
