"""The recipe: one pretraining on passages, then questions at 4, 8 and 16 tokens a slot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llgbm.latentwire.commands.evaluate import ROW_NAMES
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments.presets import LatentwirePreset
from llgbm.latentwire.experiments.variants import Asked, measured_runs
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.loop import CompressorTraining

RATIOS = (4, 8, 16)


def recipe_table(
    folder: Path, preset: LatentwirePreset, reader: str
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """Evaluations on test questions by ratio, one a seed of the second stage; row `latent`."""
    pretrained = folder / "pretrained"
    CompressorTraining(pretraining(preset, reader), load_reader(reader), pretrained).fit()
    trainings = {
        (f"{ratio}x", seed): tuning(preset, reader, ratio, seed, str(pretrained))
        for ratio in RATIOS
        for seed in preset.seeds
    }
    asked = Asked(preset.test_questions, "test", ROW_NAMES, ("int8", "int4"))
    return measured_runs(folder, trainings, asked), "latent"


def pretraining(preset: LatentwirePreset, reader: str) -> TrainConfig:
    """Continue, write again and quote passages."""
    return read_config(
        "recipe",
        [
            f"reader={reader}",
            f"compressor.slots.ratio={preset.pretrain_ratio}",
            f"compressor.encoder.r={preset.r}",
            f"stages=[{{name='pretrain', steps={preset.pretrain_steps}, lr=5e-4, "
            f"batch_size={preset.batch_size}, data={{name='pretraining'}}}}]",
        ],
    )


def tuning(
    preset: LatentwirePreset, reader: str, ratio: float, seed: int, start: str
) -> TrainConfig:
    """Questions at a ratio, from a pretrained compressor."""
    return read_config(
        "recipe",
        [
            f"reader={reader}",
            f"compressor.slots.ratio={ratio}",
            f"compressor.encoder.r={preset.r}",
            f"stages=[{{name='questions', steps={preset.tune_steps}, lr=3e-4, "
            f"batch_size={preset.batch_size}, "
            f"data={{name='squad', longest={preset.longest}}}}}]",
            f"start_from='{start}'",
            f"seed={seed}",
        ],
    )
