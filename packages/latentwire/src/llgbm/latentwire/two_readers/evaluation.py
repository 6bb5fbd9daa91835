"""Evaluation of one latent with two readers: a table each, swaps, and both readers together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from llgbm.deltas.bootstrap import interval, paired_difference
from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.alignment import check_alignment
from llgbm.latentwire.evaluation.evaluate import evaluate, evaluating
from llgbm.latentwire.evaluation.joint import joint_answers
from llgbm.latentwire.evaluation.measuring import batches
from llgbm.latentwire.evaluation.pairing import outcomes, row_difference
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.rows.base import RowConfig, Setting
from llgbm.latentwire.evaluation.rows.latent import LatentRow, LatentRowConfig
from llgbm.latentwire.evaluation.rows.text import TextRowConfig
from llgbm.latentwire.examples import Example
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.metrics import exact_match, f1_score
from llgbm.latentwire.two_readers.compressor import SharedCompressor
from llgbm.latentwire.two_readers.layout import READERS
from llgbm.latentwire.two_readers.results import JointResult, TwoReadersEvaluation
from llgbm.latentwire.two_readers.rows import (
    SentBudgetRowConfig,
    SingleRowConfig,
    SwappedRowConfig,
)
from llgbm.latentwire.two_readers.view import View

LATENT = LatentRowConfig.name


def evaluate_readers(
    compressor: SharedCompressor,
    examples: Sequence[Example],
    singles: Mapping[str, str] | None = None,
    decoding: DecodingConfig | None = None,
    batch_size: int = 8,
    seed: int = 0,
    scale: str = "",
) -> TwoReadersEvaluation:
    """Measure what each reader makes of its view, and both together, on the same examples.

    Args:
        compressor: of both readers; read in evaluation mode.
        examples: that are asked; questions, without marks.
        singles: by reader, the run of a compressor for it alone; rows for those that are given.
        decoding: of the written answers.
        batch_size: examples at once.
        seed: of which text's slots are swapped in, and of intervals.
        scale: in words; each reader's name is put before it.

    Raises:
        PromptError: no examples, a mark, all of one document, or an answer that a tokenizer does
            not align with its ending (anchor rule 7).
        ModelError, RunError: see `evaluate` and `load_compressor`.
    """
    require_at_least(1, batch_size=batch_size)
    decoding = decoding or DecodingConfig()
    found = {}
    for name in READERS:
        reader = compressor.readers[name]
        check_alignment(reader, examples)
        rows = reader_rows(compressor, (singles or {}).get(name, ""))
        measured = evaluate(
            reader,
            View(compressor, name),
            examples,
            rows,
            decoding,
            batch_size,
            seed,
            scale=f"{name} reader {reader.name}, {scale or f'{len(examples)} examples'}",
        )
        found[name] = with_differences(measured, seed)
    joint = joint_result(compressor, examples, found, decoding, batch_size, seed)
    return TwoReadersEvaluation(found, joint)


def reader_rows(compressor: SharedCompressor, single: str = "") -> list[RowConfig]:
    """Rows of one reader's table, in its order.

    Without private slots there are none to swap.

    Args:
        compressor: of both readers.
        single: run of a compressor for this reader alone; no row where empty.
    """
    rows: list[RowConfig] = [TextRowConfig(), SentBudgetRowConfig()]
    if single:
        rows.append(SingleRowConfig(single))
    rows += [LatentRowConfig(), SwappedRowConfig("shared")]
    if compressor.config.layout.private:
        rows += [SwappedRowConfig("private"), SwappedRowConfig("both")]
    return rows


def with_differences(evaluation: Evaluation, seed: int) -> Evaluation:
    """An evaluation with every row's F1 minus that of the latents, paired by example."""
    against = {
        row: row_difference([evaluation.answers], row, LATENT, seed=seed)
        for row in evaluation.rows
        if row != LATENT
    }
    return replace(evaluation, differences={**evaluation.differences, LATENT: against})


@torch.no_grad()
def joint_result(
    compressor: SharedCompressor,
    examples: Sequence[Example],
    evaluations: Mapping[str, Evaluation],
    decoding: DecodingConfig,
    batch_size: int,
    seed: int,
) -> JointResult:
    """Both readers propose an answer from their views, and score both; see `joint_answers`.

    Args:
        compressor: of both readers.
        examples: that were asked.
        evaluations: of each reader, for its own answers from the latents.
        decoding: of the candidates.
        batch_size: examples at once.
        seed: of intervals.
    """
    views = {name: View(compressor, name) for name in READERS}
    settings = [
        Setting(compressor.readers[name], tuple(examples), views[name], seed=seed)
        for name in READERS
    ]
    texts: dict[int, str] = {}
    with evaluating(next(iter(views.values()))):
        rows = [LatentRow(setting, LATENT) for setting in settings]
        for indices in batches(settings[0], batch_size):
            answers = joint_answers([row.prompts(indices) for row in rows], decoding)
            texts |= {i: answer.text for i, answer in zip(indices, answers, strict=True)}
    said = tuple(texts[index] for index in range(len(examples)))
    pairs = list(zip(said, examples, strict=True))
    em = np.array([exact_match(text, example.accepted) for text, example in pairs])
    f1 = np.array([f1_score(text, example.accepted) for text, example in pairs])
    return JointResult(
        em=interval({"examples": em}, seed),
        f1=interval({"examples": f1}, seed),
        minus={
            name: paired_difference(
                {"examples": f1}, {"examples": outcomes([found.answers], LATENT)}, seed
            )
            for name, found in evaluations.items()
        },
        answers=said,
    )
