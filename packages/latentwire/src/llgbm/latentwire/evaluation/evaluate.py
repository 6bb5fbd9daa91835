"""Evaluation: every row answers every example, and is held against text and token budget."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import torch
from tqdm import tqdm

from llgbm.deltas.environment import environment
from llgbm.deltas.errors import ModelError, require_at_least, require_seed
from llgbm.latentwire.alignment import check_alignment
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.evaluation.basis import Basis
from llgbm.latentwire.evaluation.measuring import Measured, batches, measure
from llgbm.latentwire.evaluation.pairing import row_difference, row_interval
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.rows import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.base import Scheme
from llgbm.latentwire.evaluation.token_prompts import TokenPrompts
from llgbm.latentwire.examples import Example, check_examples
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig

TEXT, BUDGET = "text", "budget_question_kept"
# Text, token budgets and no context as they were measured, by all that they depend on.
Rivals = dict[tuple[Hashable, ...], Measured]


def rows_by_name(names: Sequence[str]) -> list[RowConfig]:
    """Configs of rows with their defaults.

    Raises:
        ConfigError: no such row.
    """
    return [ROWS[name]() for name in names]


def evaluate(
    reader: Reader,
    compressor: Compressor | None,
    examples: Sequence[Example],
    rows: Sequence[RowConfig],
    decoding: DecodingConfig | None = None,
    batch_size: int = 8,
    seed: int = 0,
    *,
    slots: SlotsConfig | None = None,
    training: Sequence[str] = (),
    basis: Basis | None = None,
    schemes: Mapping[str, Scheme] | None = None,
    rivals: Rivals | None = None,
    scale: str = "",
) -> Evaluation:
    """Measure every row on the same examples.

    Rows of the bare reader run before any that has a compressor (anchor rule 9). Batches hold
    examples of like length, and no answer depends on its batch: where the first token is drawn,
    each example is alone and has a seed of its own.

    Args:
        reader: frozen.
        compressor: read in evaluation mode; None where no row needs one.
        examples: that are asked; questions, without marks.
        rows: configs of `ROWS`, in the table's order.
        decoding: of the written answers.
        batch_size: examples at once.
        seed: of what rows draw and of the intervals.
        slots: the budget where there is no compressor.
        training: contexts of the training split, for the row `mean`.
        basis: for the row `pca`.
        schemes: for rows `unpacked`: latents [m, z] of one text as they come back, by name.
        rivals: rows of other evaluations that no compressor is at work in; they are not measured
            again where they are the same here. Takes up those of this one. Their seconds are
            those of then, and `settings` says whose: `taken_over`.
        scale: in words, where more is to be said than reader and number of examples.

    Raises:
        ModelError: the reader's NLL of the text is no better than a uniform guess, so that
            something is broken; or the reader already carries an adapter.
        ConfigError: no rows, the same one twice, or a row without what it needs.
        PromptError: no examples, an empty part, a mark, or an answer that does not begin where the
            reader's tokenizer would begin it.
    """
    decoding = decoding or DecodingConfig()
    require_at_least(1, batch_size=batch_size)
    require_seed(seed)
    check_examples(examples)
    _check_questions(examples)
    check_alignment(reader, examples)
    labels = [config.label for config in rows]
    if not labels or len(set(labels)) < len(labels):
        raise ConfigError(f"rows: expected different rows, at least one, got {labels}")
    if hasattr(reader.model, "peft_config"):
        raise ModelError(f"{reader.name}: expected a bare reader, got one with an adapter")
    setting = Setting(
        reader, tuple(examples), compressor, slots or SlotsConfig(), tuple(training), basis,
        schemes or {}, seed,
    )  # fmt: skip
    measured: dict[str, Measured] = {}
    taken_over: list[str] = []
    in_order = sorted(rows, key=lambda config: not config.bare)
    with evaluating(compressor), torch.no_grad():
        _warm_up(setting, batch_size)
        for config in tqdm(in_order, desc="rows", unit="row", leave=False):
            label = config.label
            key = _rival_key(config, setting, decoding, batch_size)
            if rivals is not None and key in rivals:
                measured[label] = rivals[key]
                taken_over.append(label)
                continue
            measured[label] = measure(config.build(setting), label, decoding, batch_size)
            if rivals is not None and key:
                rivals[key] = measured[label]
            if label == TEXT:
                check_text_nll(reader, measured[label].result.nll)
    answers = tuple(answer for label in labels for answer in measured[label].answers)
    against = [name for name in (TEXT, BUDGET) if name in labels]
    return Evaluation(
        scale=scale or f"{reader.name}, {len(examples)} examples",
        environment=environment(seed, reader.device, reader.dtype),
        reader_fingerprint=reader.fingerprint,
        settings={
            "batch_size": batch_size,
            "decoding": asdict(decoding),
            "slots": asdict(setting.budget),
            "rows": {config.label: asdict(config) for config in rows},
            "taken_over": taken_over,
        },
        rows={label: measured[label].result for label in labels},
        intervals={
            label: {name: row_interval([answers], label, name, seed) for name in ("em", "f1")}
            for label in labels
        },
        differences={
            name: {
                label: row_difference([answers], label, name, seed=seed)
                for label in labels
                if label != name
            }
            for name in against
        },
        answers=answers,
    )


def _rival_key(
    config: RowConfig, setting: Setting, decoding: DecodingConfig, batch_size: int
) -> tuple[Hashable, ...]:
    """All that a rival depends on; empty for other rows. No rival draws anything."""
    own, reader = config.depends_on(setting), setting.reader
    if own is None:
        return ()
    on = (reader.name, reader.fingerprint, str(reader.device))
    return (config, decoding, batch_size, setting.examples, *on, *own)


def check_text_nll(reader: Reader, nll: float) -> None:
    """Refuse a reader that knows no more of answers than a uniform guess does.

    Raises:
        ModelError: nats a token of ln V or more, or not a number.
    """
    worst = math.log(reader.vocabulary)
    if not nll < worst:
        raise ModelError(
            f"text NLL: expected below ln {reader.vocabulary} = {worst:.2f}, got {nll:.2f}"
        )


@contextmanager
def evaluating(compressor: Compressor | None) -> Iterator[None]:
    """Within the block every module of a compressor is in evaluation mode."""
    modules = [] if compressor is None else list(compressor.modules())
    before = [module.training for module in modules]
    if compressor is not None:
        compressor.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode


def _check_questions(examples: Sequence[Example]) -> None:
    for number, example in enumerate(examples, 1):
        if example.mark:
            raise PromptError(f"example {number}: mark: expected none, got {example.mark!r}")
        if not example.ending:
            raise PromptError(f"example {number}: ending: expected text, got none")


def _warm_up(setting: Setting, batch_size: int) -> None:
    """Write one token once, so that no row is timed on a cold device."""
    first = batches(setting, batch_size)[0]
    ids = [[*setting.contexts[index], *setting.endings[index]] for index in first]
    TokenPrompts(setting.reader, ids, [0] * len(first)).write(DecodingConfig(max_new_tokens=1))
