"""The recipe: a long first training, then SQuAD's questions, by two ways into the reader.

The same contextual encoder gives embeddings (the packaged config `recipe`) or keys and values of
every layer (`cache`). The latter are asked at 4, 8 and 16 tokens a slot, the former at 4, and both
at 4 with several seeds.
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
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.loop import CompressorTraining

# Packaged configs by what their slots are.
RECIPES = {"keys and values": "cache", "embeddings": "recipe"}
FIRST, RATIOS = "keys and values", (4, 8, 16)
# Words of a window where the preset leaves passages whole.
LONGEST = 250


def recipe_table(
    folder: Path, preset: LatentwirePreset, reader: str, way: str = FIRST
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """Evaluations on test questions by ratio, one a seed of the second stage.

    The very first evaluation has every row of the table.
    """
    config = RECIPES[way]
    start = folder / f"pretrained-{config}"
    CompressorTraining(pretraining(preset, reader, config), load_reader(reader), start).fit()
    trainings = {
        (f"{way}, {ratio}x", seed): tuning(preset, reader, config, ratio, seed, str(start))
        for ratio in (RATIOS if way == FIRST else RATIOS[:1])
        for seed in (preset.seeds if ratio == RATIOS[0] else preset.seeds[:1])
    }
    asked = Asked(preset.test_questions, "test", variants.ROW_NAMES, ROW_NAMES, ("int8", "int4"))
    return measured_runs(folder, trainings, asked), "latent"


def embeddings_table(
    folder: Path, preset: LatentwirePreset, reader: str
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """The same by embeddings."""
    return recipe_table(folder, preset, reader, "embeddings")


def pretraining(preset: LatentwirePreset, reader: str, config: str) -> TrainConfig:
    """What comes before SQuAD's own questions.

    For embeddings: continue, write again and quote passages. For keys and values: which
    positions are worth a slot, then questions about many passages.
    """
    batch = f"batch_size={preset.batch_size}, lr=5e-4"
    stages = (
        f"[{{name='pretrain', steps={preset.pretrain_steps}, {batch}, "
        "data={name='pretraining'}}]"
    )
    if config == RECIPES[FIRST]:
        data = f"{{name='reading', longest={preset.longest or LONGEST}}}"
        losses = "[{name='answer'}, {name='selection', weight=0.1}]"
        stages = (
            f"[{{name='select', steps={preset.select_steps}, batch_size={2 * preset.batch_size}, "
            f"lr=2e-4, data={data}, train=['pooler'], losses=[{{name='selection'}}]}}, "
            f"{{name='reading', steps={preset.pretrain_steps}, {batch}, data={data}, "
            f"losses={losses}}}]"
        )
    return read_config(
        config,
        [
            f"reader={reader}",
            f"compressor.slots.ratio={preset.pretrain_ratio}",
            f"compressor.encoder.r={preset.r}",
            f"stages={stages}",
        ],
    )


def tuning(
    preset: LatentwirePreset, reader: str, config: str, ratio: float, seed: int, start: str
) -> TrainConfig:
    """Questions at a ratio, from a pretrained compressor."""
    losses = "[{name='answer'}]"
    if config == RECIPES[FIRST]:
        losses = "[{name='answer'}, {name='selection', weight=0.1}]"
    return read_config(
        config,
        [
            f"reader={reader}",
            f"compressor.slots.ratio={ratio}",
            f"compressor.encoder.r={preset.r}",
            f"stages=[{{name='questions', steps={preset.tune_steps}, lr=2e-4, "
            f"batch_size={preset.batch_size}, losses={losses}, "
            f"data={{name='squad', longest={preset.longest}}}}}]",
            f"start_from='{start}'",
            f"seed={seed}",
        ],
    )
