"""How long a table took, over all calls that it was made in."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.errors import RunError
from llgbm.deltas.json_files import read_json
from llgbm.latentwire.commands.evaluate import EVALUATION
from llgbm.latentwire.evaluation.results import Evaluation


def seconds_spent(folder: Path) -> float:
    """Seconds of optimiser steps and of measured rows of every run below a folder.

    Loading, fitting and validating are not among them, nor rows that another run measured.
    """
    trained = sum(
        float(read_json(path, RunError)["seconds"]) for path in folder.rglob("finished.json")
    )
    answered = sum(
        row.encode_seconds + row.quantise_seconds + row.prefill_seconds + row.decode_seconds
        for path in folder.rglob(EVALUATION)
        for evaluation in [Evaluation.read(path)]
        for label, row in evaluation.rows.items()
        if label not in evaluation.settings.get("taken_over", ())
    )
    return round(trained + answered, 1)
