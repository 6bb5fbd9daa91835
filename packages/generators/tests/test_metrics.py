"""Numbers of an evaluation: differences between arms, and what is left of each seed."""

import numpy as np
import pytest

from llgbm.generators.evaluation.metrics import differences, seed_metrics


def test_metrics_name_every_seed() -> None:
    def table(*means: float) -> dict:
        return {"t": np.repeat(np.array(means)[:, None], 10, axis=1)}

    outcomes = {
        "base": {"t": np.full(10, 0.2)},
        "mean_adapter": {"t": np.full(10, 0.4)},
        "teacher": {"t": np.full(10, 0.8)},
        "generated": table(0.4, 0.6),
        "generated_shuffled": table(0.4, 0.5),
    }
    found = seed_metrics(outcomes, "seen", ["first", "second"])
    assert found == pytest.approx(
        {
            "seen.first.accuracy": 0.4,
            "seen.first.oracle_recovery": 0.0,
            "seen.first.condition_sensitivity": 0.0,
            "seen.second.accuracy": 0.6,
            "seen.second.oracle_recovery": 0.5,
            "seen.second.condition_sensitivity": 0.1,
        }
    )
    against = differences(outcomes)
    assert set(against) == set(outcomes) - {"generated"}
    assert against["base"].mean == pytest.approx(0.3)
