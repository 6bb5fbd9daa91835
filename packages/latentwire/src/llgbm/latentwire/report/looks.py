"""Lines of diagnostics.jsonl, as far as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cattrs

from llgbm.deltas.errors import RunError
from llgbm.deltas.metrics_log import read_metrics
from llgbm.latentwire.diagnostics import NearSlot
from llgbm.latentwire.evaluation.answers import wrong_values

_CONVERTER = cattrs.Converter()


@dataclass(frozen=True)
class Look:
    """One look inside a training.

    Attributes:
        step: over all stages.
        stage: whose step it is.
        part_gradient_norms: part -> norm before clipping.
        term_gradient_norms: term -> norm of what it adds.
        slots: with the vocabulary entry nearest to each.
    """

    step: int
    stage: str
    part_gradient_norms: Mapping[str, float] = field(default_factory=dict)
    term_gradient_norms: Mapping[str, float] = field(default_factory=dict)
    slots: tuple[NearSlot, ...] = ()


def read_looks(path: Path) -> tuple[Look, ...]:
    """Read every line; none where there is no file.

    Raises:
        RunError: a malformed line.
    """
    looks = []
    for record in read_metrics(path):
        try:
            looks.append(_CONVERTER.structure(record, Look))
        except cattrs.BaseValidationError as error:
            said = f"expected a look, got {wrong_values(error)}"
            raise RunError(f"{path}: step {record['step']}: {said}") from error
    return tuple(looks)
