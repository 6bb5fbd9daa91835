"""Objectives on next tokens ask for deltas that next tokens follow from."""

import pytest

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError
from llgbm.generators.training.next_tokens import require_next_tokens


def test_deltas_without_the_last_token_of_the_last_layer_are_refused_with_a_way_out() -> None:
    require_next_tokens(DeltaSpec((-2, -1), aggregation="per_probe"))
    for spec in (
        DeltaSpec(),
        DeltaSpec((-2,), aggregation="per_probe"),
        DeltaSpec(pooling="mean", aggregation="per_probe"),
    ):
        with pytest.raises(SettingError, match="objective.lambda-kl 0"):
            require_next_tokens(spec)
