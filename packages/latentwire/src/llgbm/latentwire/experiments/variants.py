"""Many runs of one table: trained where missing, evaluated where missing, summed up together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError
from llgbm.latentwire.commands.evaluate import EVALUATION, EvaluateConfig, evaluate_run
from llgbm.latentwire.evaluation.evaluate import BUDGET, TEXT, Rivals
from llgbm.latentwire.evaluation.pairing import row_difference, row_interval
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.files import RunFiles, write_settings
from llgbm.latentwire.training.loop import CompressorTraining

SHUFFLED, LATENT = "shuffled", "latent"
ROW_NAMES = (TEXT, BUDGET, SHUFFLED, LATENT)


@dataclass(frozen=True)
class Asked:
    """What every run of a table is asked.

    Attributes:
        questions: at most so many.
        split: `validation` while anything is chosen by the table, else `test`.
        rows: of each evaluation; text, token budget, shuffled and latent are among them.
        first_rows: in place of `rows`, of the very first run.
        schemes: latents after packing, too, of the very first run.
    """

    questions: int
    split: str = "validation"
    rows: tuple[str, ...] = ROW_NAMES
    first_rows: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()


def measured_runs(
    folder: Path,
    trainings: Mapping[tuple[str, int], TrainConfig],
    asked: Asked,
) -> dict[str, list[Evaluation]]:
    """Evaluations by variant, one a seed; what is there already is not done again.

    Args:
        folder: of all runs: FOLDER/VARIANT/seed-N.
        trainings: by variant and seed.
        asked: of every one.
    """
    found: dict[str, list[Evaluation]] = {}
    readers: dict[str, Reader] = {}
    rivals: Rivals = {}
    for (name, seed), training in trainings.items():
        run = folder / folder_name(name) / f"seed-{seed}"
        # A run of other settings is refused, whether or not it was evaluated.
        write_settings(RunFiles(run), training)
        if not (run / EVALUATION).exists():
            if training.reader not in readers:
                readers[training.reader] = load_reader(training.reader)
            print(f"{name}, seed {seed}")
            CompressorTraining(training, readers[training.reader], run).fit()
            first = not found
            evaluate_run(
                EvaluateConfig(
                    run,
                    asked.questions,
                    asked.split,
                    rows=(first and asked.first_rows) or asked.rows,
                    schemes=asked.schemes if first else (),
                    seed=seed,
                ),
                rivals,
            )
        found.setdefault(name, []).append(Evaluation.read(run / EVALUATION))
    check_alike(folder, found, asked)
    return found


def check_alike(folder: Path, found: Mapping[str, Sequence[Evaluation]], asked: Asked) -> None:
    """Refuse evaluations of one table that were asked other things.

    Raises:
        RunError: other questions or rows than the others, or than are asked for now.
    """
    lists = {
        name: [(answer.title, answer.question) for answer in each.answers if answer.row == TEXT]
        for name, evaluations in found.items()
        for each in evaluations
    }
    first = next(iter(lists.values()))
    for name, questions in lists.items():
        if questions != first or len(questions) > asked.questions:
            raise RunError(
                f"{folder / folder_name(name)}: was asked other questions than the rest of the "
                f"table: delete its {EVALUATION} to ask it again"
            )
    for name, evaluations in found.items():
        lacking = [row for each in evaluations for row in asked.rows if row not in each.rows]
        if lacking:
            raise RunError(f"{folder / folder_name(name)}: row {lacking[0]}: not in its evaluation")


def summarise(evaluations: Sequence[Evaluation], row: str = LATENT) -> dict[str, Interval]:
    """F1, EM and NLL of a row and differences to the rivals, over examples and seeds.

    `minus_RIVAL` is a difference of F1, `minus_RIVAL_nll` one of nats a token (a mean of the
    answers' means): below 0 the row knows more of the answers.
    """
    tables = [evaluation.answers for evaluation in evaluations]
    rows = set.intersection(*(set(evaluation.rows) for evaluation in evaluations))
    found = {metric: row_interval(tables, row, metric) for metric in ("f1", "em", "nll")}
    for rival in (TEXT, BUDGET, SHUFFLED):
        if rival in rows and rival != row:
            found[rival] = row_interval(tables, rival)
            found[f"minus_{rival}"] = row_difference(tables, row, rival)
            found[f"minus_{rival}_nll"] = row_difference(tables, row, rival, "nll")
    return found


def folder_name(variant: str) -> str:
    """A variant's name as a folder."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in variant)
