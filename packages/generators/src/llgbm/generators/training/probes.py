"""Which deltas a trained generator was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError, SettingError
from llgbm.deltas.module_files import CONFIG
from llgbm.deltas.probe_names import named_probes
from llgbm.generators.training.config import ConditionShares


def trained_probes(metadata: Mapping[str, Any], folder: Path) -> tuple[str, DeltaSpec]:
    """Return the name of the probes and the delta spec from what was saved with a training.

    Args:
        metadata: of a generator or of a retriever.
        folder: of it, for the error.

    Raises:
        RunError: it was not saved by `llgbm train` or `llgbm train-retriever`.
    """
    try:
        settings = metadata["training"]
        deltas = settings["deltas"]
        spec = DeltaSpec(tuple(deltas["layers"]), deltas["pooling"], deltas["aggregation"])
        return str(settings["probes"]), spec
    except (KeyError, TypeError, ValueError) as error:
        words = f"metadata: training: expected its settings, got {error!r}"
        raise RunError(f"{folder / CONFIG}: {words}") from error


def trained_cache(metadata: Mapping[str, Any]) -> str:
    """Return the name of the delta cache that a generator was trained on; empty for the main."""
    training = metadata.get("training")
    return str(training.get("delta_cache", "")) if isinstance(training, Mapping) else ""


def check_held_out(held_out: str, trained: str) -> None:
    """Raise SettingError where probes that should be held out were trained on."""
    both = set(named_probes(held_out).texts) & set(named_probes(trained).texts)
    if both:
        raise SettingError(
            f"held_out_probes: expected none of the probes {trained} that were trained on, got "
            f"{held_out}, which shares {len(both)}"
        )


def validated_by(metadata: Mapping[str, Any]) -> Literal["prompts", "prompts_with_answers"]:
    """Return the kind of condition that a generator was validated with."""
    shares = metadata.get("training", {}).get("conditions", {})
    return ConditionShares(**shares).validated_by
