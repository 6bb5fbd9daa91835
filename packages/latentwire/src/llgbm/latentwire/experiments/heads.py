"""Keys and values of which every head keeps its own number, without any training.

Nothing is known but what the reader's attention says of some training texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llgbm.latentwire.commands.evaluate import ROW_NAMES
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments import variants
from llgbm.latentwire.experiments.presets import LatentwirePreset
from llgbm.latentwire.experiments.variants import Asked, measured_runs

RATIOS = (4, 8, 16)
# Slots that say nothing alone have no mean.
FIRST_ROWS = tuple(name for name in ROW_NAMES if name != "mean")


def heads_table(
    folder: Path, preset: LatentwirePreset, reader: str
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """Evaluations on test questions by ratio; the very first has every row of the table."""
    runs = {
        (f"{ratio}x", 0): read_config(
            "heads",
            [
                f"reader={reader}",
                f"compressor.slots.ratio={ratio}",
                f"stages.0.data={{name='squad', longest={preset.longest}}}",
            ],
        )
        for ratio in RATIOS
    }
    asked = Asked(preset.test_questions, "test", variants.ROW_NAMES, FIRST_ROWS, ("int8", "int4"))
    return measured_runs(folder, runs, asked), "latent"
