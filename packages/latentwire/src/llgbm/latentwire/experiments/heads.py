"""Keys and values of which every head keeps its own number, without and with training.

Nothing is trained but what the reader's attention says of 32 training texts; beside it, some steps
of questions by the same parts with a LoRA in the encoder.
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
from llgbm.latentwire.training.config import TrainConfig

RATIOS = (4, 8, 16)
# Of those, what is trained as well.
TRAINED = (8,)
# Slots that say nothing alone have no mean.
FIRST_ROWS = tuple(name for name in ROW_NAMES if name != "mean")


def heads_table(
    folder: Path, preset: LatentwirePreset, reader: str
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """Evaluations on test questions by ratio; the very first has every row of the table."""
    plain = {(f"{ratio}x", 0): training(preset, reader, ratio, "frozen") for ratio in RATIOS}
    trained = {
        (f"{ratio}x, trained", 0): training(preset, reader, ratio, "lora") for ratio in TRAINED
    }
    asked = Asked(preset.test_questions, "test", variants.ROW_NAMES, FIRST_ROWS, ("int8", "int4"))
    untrained = frozenset(name for name, _ in plain)
    return measured_runs(folder, {**plain, **trained}, asked, untrained), "latent"


def training(preset: LatentwirePreset, reader: str, ratio: int, tuning: str) -> TrainConfig:
    """Questions at a ratio; `frozen` is only fitted."""
    words = [
        f"reader={reader}",
        f"compressor.slots.ratio={ratio}",
        f"compressor.encoder.tuning={tuning}",
        f"compressor.encoder.r={preset.r}",
        f"stages=[{{name='questions', steps={preset.tune_steps}, lr=2e-4, "
        f"batch_size={preset.batch_size}, losses=[{{name='answer'}}], "
        f"data={{name='squad', longest={preset.longest}}}}}]",
    ]
    return read_config("heads", words)
