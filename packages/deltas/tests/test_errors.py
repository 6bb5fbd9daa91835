import pytest

from llgbm.deltas.errors import SettingError, require_seed


@pytest.mark.parametrize("seed", [-1, 2**32, 2**70])
def test_seeds_that_some_generator_refuses_are_refused(seed) -> None:
    with pytest.raises(SettingError, match=f"seed: expected from 0 to 4294967295, got {seed}"):
        require_seed(seed)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_of_32_bits_are_taken(seed) -> None:
    require_seed(seed)
