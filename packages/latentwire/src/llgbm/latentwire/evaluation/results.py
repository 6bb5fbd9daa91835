"""Results of an evaluation: one writer, one reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.latentwire.evaluation.answers import Answer, read_answers, write_answers, wrong_values

SCHEMA, KIND = 2, "latentwire evaluation"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class RowResult:
    """Numbers of one row, means over examples where nothing else is said.

    Attributes:
        em: exact match, 0 to 1.
        f1: word F1, 0 to 1; every example counts, an empty answer as 0.
        nll: nats a token of the gold answers, over all tokens of all answers.
        first_at_1: share of gold answers whose first token is the reader's first guess.
        first_at_5: ... is among its first five.
        empty: share of answers without a word.
        distinct: distinct answers over all.
        repetition: share of answers that repeat a run of three words.
        prompt_tokens: tokens and vectors read before the answer.
        slots: of these, what stands for the context.
        encode_seconds: making latents or choosing tokens; all examples together, as below.
        quantise_seconds: packing and unpacking.
        prefill_seconds: reading the prompts.
        decode_seconds: writing the answers.
    """

    em: float
    f1: float
    nll: float
    first_at_1: float
    first_at_5: float
    empty: float
    distinct: float
    repetition: float
    prompt_tokens: float
    slots: float
    encode_seconds: float
    quantise_seconds: float
    prefill_seconds: float
    decode_seconds: float

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{each.name}: expected a finite number from 0, got {value!r}")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scale: in words: reader, examples, budget; stands wherever a number is shown.
        environment: commit, versions, device, seed.
        reader_fingerprint: sha256 of the reader's weights.
        settings: batch size, decoding, slots and the rows' configs.
        rows: row -> numbers, in the table's order.
        intervals: row -> `em` and `f1` -> 95% interval over examples.
        differences: `text` and the token budget, where they were run -> row -> 95% interval of
            F1 minus theirs, paired by example.
        answers: of every row and example; they stand in a .jsonl file beside the results.
    """

    scale: str
    environment: Mapping[str, Any]
    reader_fingerprint: str
    settings: Mapping[str, Any]
    rows: Mapping[str, RowResult]
    intervals: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    answers: tuple[Answer, ...]

    def write(self, path: Path) -> None:
        """Write the file, and the answers beside it, each atomically."""
        write_answers(path.with_suffix(".jsonl"), self.answers)
        content = {key: value for key, value in asdict(self).items() if key != "answers"}
        write_json(path, {"schema": SCHEMA, "kind": KIND, **content})

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read and check both files.

        Raises:
            RunError: missing, malformed, of another kind, or answers of other rows.
        """
        content = read_json(path, RunError)
        found = (content.pop("schema", None), content.pop("kind", None))
        if found != (SCHEMA, KIND):
            raise RunError(mismatch(path, "schema and kind", (SCHEMA, KIND), found))
        beside = path.with_suffix(".jsonl")
        answers = read_answers(beside)
        try:
            read = _CONVERTER.structure({**content, "answers": []}, cls)
        except cattrs.BaseValidationError as error:
            said = wrong_values(error)
            raise RunError(f"{path}: expected an evaluation's results, got {said}") from error
        counts = {row: sum(answer.row == row for answer in answers) for row in read.rows}
        if not answers or len(set(counts.values())) != 1 or sum(counts.values()) != len(answers):
            rows = sorted({answer.row for answer in answers})
            raise RunError(
                mismatch(beside, "answers", f"as many for each of {list(read.rows)}", rows)
            )
        return cls(**{**read.__dict__, "answers": answers})
