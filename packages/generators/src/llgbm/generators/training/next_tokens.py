"""Which deltas next tokens follow from."""

from __future__ import annotations

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError


def require_next_tokens(spec: DeltaSpec) -> None:
    """Raise SettingError where next-token distributions do not follow from deltas of `spec`."""
    if -1 not in spec.layers or (spec.pooling, spec.aggregation) != ("last_token", "per_probe"):
        raise SettingError(
            "deltas: expected layer -1, pooling last_token and aggregation per_probe, from "
            f"which next tokens follow, got {spec.layers}, {spec.pooling}, {spec.aggregation}: "
            "compute a cache of those, or choose an objective with --objective.lambda-kl 0"
        )
