"""Which deltas a trained generator was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError


def trained_probes(metadata: Mapping[str, Any]) -> tuple[str, DeltaSpec]:
    """Return the name of the probes and the delta spec from a generator's metadata.

    Raises:
        RunError: the generator was not saved by `llgbm train`.
    """
    try:
        settings = metadata["training"]
        deltas = settings["deltas"]
        spec = DeltaSpec(tuple(deltas["layers"]), deltas["pooling"], deltas["aggregation"])
        return str(settings["probes"]), spec
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"generator: training: expected its settings, got {error!r}") from error
