"""Overfitting: a compressor trained on a few questions until it knows them, asked the same again.

The parts work together only if this succeeds; it says nothing of new texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llgbm.latentwire.commands.evaluate import EVALUATION
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.data.sources import SquadSourceConfig
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments.presets import LatentwirePreset
from llgbm.latentwire.experiments.recipe import RECIPES
from llgbm.latentwire.experiments.variants import ROW_NAMES
from llgbm.latentwire.reader import Reader, load_reader, shown_name
from llgbm.latentwire.training.loop import CompressorTraining


def memorise_table(
    folder: Path, preset: LatentwirePreset, reader: str
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """An evaluation a way, on the very questions of the training; the row is `latent`."""
    found = {}
    loaded: list[Reader] = []
    for way, config in RECIPES.items():
        path = folder / config / EVALUATION
        if not path.exists():
            loaded = loaded or [load_reader(reader)]
            memorise(loaded[0], preset, config, path)
        found[f"{preset.overfit_samples} questions, 4x, {way}"] = [Evaluation.read(path)]
    return found, "latent"


def memorise(reader: Reader, preset: LatentwirePreset, config: str, path: Path) -> None:
    """Train on a few questions, ask them again, write the evaluation."""
    data = SquadSourceConfig(limit=preset.overfit_samples, longest=preset.longest)
    settings = read_config(
        config,
        [
            f"reader={reader.name}",
            "compressor.slots.ratio=4",
            f"compressor.encoder.r={preset.r}",
            f"stages=[{{name='questions', steps={preset.overfit_steps}, lr=1e-3, "
            f"batch_size={preset.batch_size}, "
            f"data={{name='squad', limit={data.limit}, longest={data.longest}}}}}]",
            "diagnose_every=0",
        ],
    )
    # Always from the start: what is measured is the last step, which no file holds.
    training = CompressorTraining(settings, reader, path.parent / "run", overwrite=True)
    training.fit()
    examples = data.open(settings.seed).batch(preset.overfit_samples, 0)
    evaluate(
        reader,
        # The last step, not the best on other questions: memory is what is asked about.
        training.compressor,
        examples,
        rows_by_name(ROW_NAMES),
        scale=f"{shown_name(reader.name)}, the {len(examples)} training questions themselves",
    ).write(path)
