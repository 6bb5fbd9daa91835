"""One row measured: what the reader writes, and what it says of the right answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llgbm.deltas.errors import ModelError
from llgbm.latentwire.evaluation.answers import Answer
from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.evaluation.results import RowResult
from llgbm.latentwire.evaluation.rows.base import Row, Setting
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.metrics import (
    distinct_rate,
    empty_rate,
    exact_match,
    f1_score,
    repetition_rate,
)
from llgbm.latentwire.scoring import Scored


@dataclass(frozen=True)
class Measured:
    """One row's numbers, and its answers in the order of the examples."""

    result: RowResult
    answers: list[Answer]


def measure(row: Row, label: str, decoding: DecodingConfig, batch_size: int) -> Measured:
    """Let one row answer every example of its setting.

    Args:
        row: built.
        label: what it is called.
        decoding: of the written answers.
        batch_size: examples at once.
    """
    setting = row.setting
    drawn = decoding.first_token_temperature > 0
    found: dict[int, Answer] = {}
    lengths, slots, seconds = [], [], [0.0] * 4
    for indices in batches(setting, 1 if drawn else batch_size):
        prompts = row.prompts(indices)
        own = replace(decoding, seed=decoding.seed + indices[0]) if drawn else decoding
        written = prompts.write(own)
        found |= _answers(setting, label, indices, prompts, written.texts)
        lengths += prompts.lengths
        slots += prompts.slots
        spent = (
            prompts.encode_seconds,
            prompts.quantise_seconds,
            written.prefill_seconds,
            written.decode_seconds,
        )
        seconds = [total + more for total, more in zip(seconds, spent, strict=True)]
    answers = [found[index] for index in range(len(setting.examples))]
    texts, count = [answer.answer for answer in answers], len(answers)
    nll = sum(answer.nll for answer in answers) / sum(answer.tokens for answer in answers)
    if not math.isfinite(nll):
        raise ModelError(f"row {label}: NLL: expected a finite number, got {nll}")
    result = RowResult(
        em=sum(answer.em for answer in answers) / count,
        f1=sum(answer.f1 for answer in answers) / count,
        nll=nll,
        first_at_1=sum(answer.first_at_1 for answer in answers) / count,
        first_at_5=sum(answer.first_at_5 for answer in answers) / count,
        empty=empty_rate(texts),
        distinct=distinct_rate(texts),
        repetition=repetition_rate(texts),
        prompt_tokens=sum(lengths) / count,
        slots=sum(slots) / count,
        encode_seconds=seconds[0],
        quantise_seconds=seconds[1],
        prefill_seconds=seconds[2],
        decode_seconds=seconds[3],
    )
    return Measured(result, answers)


def batches(setting: Setting, batch_size: int) -> list[list[int]]:
    """Places of the examples, sorted by length of the prompt, in batches."""
    lengths = [len(c) + len(e) for c, e in zip(setting.contexts, setting.endings, strict=True)]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _answers(
    setting: Setting, label: str, indices: Sequence[int], prompts: Prompts, texts: Sequence[str]
) -> dict[int, Answer]:
    """Answers of one batch by place."""
    examples = [setting.examples[index] for index in indices]
    golds = [setting.reader.answer_tokens(example.answer, end=False) for example in examples]
    scored = prompts.score(golds)
    nll = torch.zeros(len(golds), device=scored.row.device).index_add(0, scored.row, scored.nll)
    first = _first_guesses(scored)
    return {
        index: Answer(
            label, example.title, example.ending.strip(), text, example.accepted,
            exact_match(text, example.accepted), f1_score(text, example.accepted),
            nll=total, tokens=len(gold),
            first_at_1=float(gold[0] == guesses[0]), first_at_5=float(gold[0] in guesses),
        )
        for index, example, text, total, gold, guesses in zip(
            indices, examples, texts, nll.tolist(), golds, first, strict=True
        )
    }  # fmt: skip


def _first_guesses(scored: Scored) -> list[list[int]]:
    """The reader's five best first tokens of every answer."""
    logits: Tensor = scored.logits[scored.step == 0]
    return logits.topk(min(5, logits.shape[-1])).indices.tolist()
