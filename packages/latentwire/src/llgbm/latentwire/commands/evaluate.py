"""`llgbm-latentwire evaluate`: every row of the table for a trained compressor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tyro.conf import Positional

from llgbm.deltas.errors import RunError, require_at_least, require_seed
from llgbm.latentwire.collapse import CollapseDetector
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.basis import fit_basis
from llgbm.latentwire.evaluation.evaluate import Rivals, evaluate, rows_by_name
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.rows.base import RowConfig, Scheme
from llgbm.latentwire.evaluation.rows.unpacked import UnpackedRowConfig
from llgbm.latentwire.evaluation.table import table
from llgbm.latentwire.examples import Example
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.reader import Reader, shown_name
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.data_notes import data_remarks
from llgbm.latentwire.training.files import (
    RunFiles,
    check_output,
    load_compressor,
    read_settings,
)
from llgbm.latentwire.two_readers.files import has_two_readers
from llgbm.latentwire.wire.format import pack, unpack
from llgbm.latentwire.wire.identity import compressor_fingerprint
from llgbm.latentwire.wire.quantise import BLOCK

ROW_NAMES = (
    "text",
    "no_context",
    "budget_head",
    "budget_tail",
    "budget_question_kept",
    "pruned",
    "replay_raw",
    "pca",
    "random",
    "mean",
    "shuffled",
    "latent",
)
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained compressor beside every baseline.

    Args:
        run: folder of the run.
        questions: at most so many.
        split: `validation` while anything is still chosen, `test` at the very end.
        rows: of the table; all that need no choice where empty.
        schemes: also measured after packing and unpacking.
        out: results; RUN/evaluation.json where not given. Answers go beside it as .jsonl.
        batch_size: questions at once.
        decoding: how answers are written.
        seed: of random and shuffled latents and of intervals.
    """

    run: Positional[Path]
    questions: int = 64
    split: str = "validation"
    rows: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ("int8", "int4")
    out: Path | None = None
    batch_size: int = 8
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, questions=self.questions, batch_size=self.batch_size)
        require_seed(self.seed)


def evaluate_run(config: EvaluateConfig, rivals: Rivals | None = None) -> Evaluation:
    """Evaluate a run's best compressor, print the table, write results and answers.

    Args:
        config: see `EvaluateConfig`.
        rivals: see `evaluate`.

    Raises:
        RunError: no trained run there, or `out` is one of its files.
        ConfigError: an unknown row, scheme or split.
    """
    files = RunFiles(config.run)
    if has_two_readers(files):
        raise RunError(
            f"{config.run}: expected a run for one reader: `llgbm-latentwire two-readers` with the "
            "same words evaluates this one again"
        )
    settings = read_settings(files)
    out = config.out or config.run / EVALUATION
    if out.suffix == ".jsonl":
        raise ConfigError(f"out: expected no .jsonl, where the answers go, got {out}")
    for path in (out, out.with_suffix(".jsonl")):
        check_output(path, config.run)
    compressor, reader = load_compressor(config.run)
    source = settings.stages[-1].data.open(settings.seed)
    examples, note = asked_questions(
        source.questions(config.split), settings, config.split, config.questions
    )
    note = "; ".join([*filter(None, [note]), *data_remarks(files, settings)])
    if note:
        print(f"{config.run}: {note}")
    rows: list[RowConfig] = rows_by_name(config.rows or default_rows(compressor))
    schemes = wire_schemes(compressor, reader, config.schemes)
    rows += [UnpackedRowConfig(scheme) for scheme in schemes]
    names = {row.name for row in rows}
    texts = source.texts()
    evaluation = evaluate(
        reader,
        compressor,
        examples,
        rows,
        decoding=config.decoding,
        batch_size=config.batch_size,
        seed=config.seed,
        training=texts,
        # As many numbers a token as the latents have a token's share of: the same budget.
        basis=fit_basis(reader, texts, components(compressor, reader, texts))
        if "pca" in names
        else None,
        schemes=schemes,
        rivals=rivals,
        scale=f"{in_words(settings, config.split, len(examples))}, {slots_in_words(compressor)}"
        + (f"; {note}" if note else ""),
    )
    print(table(evaluation))
    said = [answer.answer for answer in evaluation.answers if answer.row == "latent"]
    detector = CollapseDetector()
    if len(said) >= detector.config.least_answers:
        for reason in detector.examine(said, [example.answer for example in examples]).reasons:
            print(f"collapse: {reason}")
    evaluation.write(out)
    return evaluation


def default_rows(compressor: Compressor) -> tuple[str, ...]:
    """Rows of a table where none are named: no mean of slots that say nothing alone."""
    alike = compressor.pooler.slots_alike
    return tuple(name for name in ROW_NAMES if alike or name != "mean")


def asked_questions(
    questions: Sequence[Example], settings: TrainConfig, split: str, count: int
) -> tuple[list[Example], str]:
    """Questions that chose nothing, and what is to be said of them where there are none.

    Args:
        questions: of the split, in order.
        settings: of the run.
        split: `validation` or `test`.
        count: at most so many.
    """
    # The first validation questions chose the best step.
    chosen_by = settings.validation_examples if split == "validation" else 0
    unseen = list(questions[chosen_by:])
    if unseen or not questions:
        return unseen[:count], ""
    note = f"all {len(questions)} validation questions have chosen the best step, too: give more"
    return list(questions[:count]), note


def wire_schemes(
    compressor: Compressor, reader: Reader, names: tuple[str, ...]
) -> dict[str, Scheme]:
    """Each scheme as a function: latents [m, z] of one text to what a file gives back."""
    first, second = reader.fingerprint, compressor_fingerprint(compressor)
    discrete = _discrete(compressor)

    def scheme(pack_row: Callable[[Tensor], bytes]) -> Scheme:
        return lambda row: unpack(pack_row(row), reader=first, compressor=second).row(discrete)

    packers = wire_packers(compressor, reader, names)
    return {name: scheme(pack_row) for name, pack_row in packers.items()}


def wire_packers(
    compressor: Compressor, reader: Reader, names: tuple[str, ...]
) -> dict[str, Callable[[Tensor], bytes]]:
    """Each scheme as a function: latents [m, z] of one text to the bytes of a latent file."""
    prints = {"reader": reader.fingerprint, "compressor": compressor_fingerprint(compressor)}
    # A bottleneck that was trained to bear rounding is rounded as it was trained.
    block = getattr(compressor.config.bottleneck, "block", BLOCK)

    def packer(name: str) -> Callable[[Tensor], bytes]:
        discrete = _discrete(compressor)
        return lambda row: pack(row, name, bottleneck=discrete, block=block, **prints)

    return {name: packer(name) for name in names}


def _discrete(compressor: Compressor) -> Any:
    return compressor.bottleneck if hasattr(compressor.bottleneck, "codes") else None


def components(compressor: Compressor, reader: Reader, texts: Sequence[str]) -> int:
    """Principal components a token that take as many numbers as the latents do on average."""
    tokens = torch.tensor([len(reader.tokens(text)) for text in texts])
    slots = compressor.config.slots.counts(tokens.clamp(max=compressor.config.slots.longest))
    share = float(slots.sum() / tokens.sum())
    return max(1, min(reader.width, round(compressor.width * share)))


def in_words(settings: TrainConfig, split: str, questions: int) -> str:
    """Scale of a run: reader, questions, and what was trained."""
    data = settings.stages[-1].data
    longest = getattr(data, "longest", 0)
    cut = f" on passages of at most {longest} words" if longest else ""
    steps = ", ".join(
        f"{s.name} {s.steps} steps of {s.batch_size}" if s.steps else f"{s.name} nothing trained"
        for s in settings.stages
    )
    begun = " after another run" if settings.start_from else ""
    return f"{shown_name(settings.reader)}, {questions} {split} questions{cut}; {steps}{begun}"


def slots_in_words(compressor: Compressor) -> str:
    """How many slots a context gets, and their width."""
    slots = compressor.config.slots
    many = f"{slots.fixed} slots" if slots.fixed else f"{slots.ratio:g} tokens a slot"
    return f"{many}, width {compressor.width}"
