"""Dimension-only PCA: every token keeps a slot, and only the slots' width shrinks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llgbm.latentwire.commands.evaluate import EVALUATION
from llgbm.latentwire.data.sources import SquadSourceConfig
from llgbm.latentwire.evaluation.basis import fit_basis
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments.presets import LatentwirePreset
from llgbm.latentwire.experiments.variants import folder_name
from llgbm.latentwire.reader import load_reader, shown_name
from llgbm.latentwire.slots import SlotsConfig

SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)


def dimension_table(
    folder: Path, preset: LatentwirePreset, reader: str
) -> tuple[Mapping[str, list[Evaluation]], str]:
    """Evaluations by number of principal components; the row is `pca`.

    The token budget beside it has as many numbers: a share of the tokens at full width.
    """
    loaded = load_reader(reader)
    source = SquadSourceConfig(longest=preset.longest).open(0)
    examples = source.questions("validation")[: preset.questions]
    found = {}
    for share in SHARES:
        components = max(1, round(share * loaded.width))
        name = f"{components} of {loaded.width}"
        path = folder / folder_name(name) / EVALUATION
        if not path.exists():
            evaluate(
                loaded,
                None,
                examples,
                rows_by_name(["text", "budget_question_kept", "pca"]),
                slots=SlotsConfig(ratio=1 / share),
                basis=fit_basis(loaded, source.texts(), components),
                scale=f"{shown_name(reader)}, {len(examples)} validation questions",
            ).write(path)
        found[name] = [Evaluation.read(path)]
    return found, "pca"
