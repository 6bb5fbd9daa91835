import math

import numpy as np
import pytest
import torch

from llgbm.deltas.errors import SettingError, require_at_least, require_seed


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70])
def test_seeds_that_some_generator_refuses_are_refused(seed) -> None:
    with pytest.raises(SettingError, match=f"seed: expected from 0 to 4294967295, got {seed}"):
        require_seed(seed)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_of_32_bits_are_taken_and_every_generator_takes_them(seed) -> None:
    require_seed(seed)
    assert torch.Generator().manual_seed(seed).initial_seed() == seed
    assert np.random.RandomState(seed).get_state()[1][0] == seed


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "lr: expected at least 1, got 0.5"),
        (math.nan, "lr: expected at least 1 and finite, got nan"),
        (math.inf, "lr: expected at least 1 and finite, got inf"),
    ],
)
def test_settings_below_a_bound_or_not_finite_are_refused(value, words) -> None:
    with pytest.raises(SettingError, match=words):
        require_at_least(1, steps=2, lr=value)
