"""`llgbm-latentwire report`: a run, or an ablation, as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from llgbm.deltas.atomic import write_text
from llgbm.deltas.errors import RunError
from llgbm.latentwire.commands.evaluate import EVALUATION
from llgbm.latentwire.evaluation.ablation import ABLATION, Ablation
from llgbm.latentwire.report.data import gather
from llgbm.latentwire.report.html import render
from llgbm.latentwire.training.files import RunFiles, check_output
from llgbm.latentwire.two_readers.layout import READERS
from llgbm.latentwire.two_readers.results import FILE as TWO_READERS
from llgbm.latentwire.two_readers.results import evaluation_file


@dataclass(frozen=True)
class ReportConfig:
    """Write one self-contained page of a run, or of the folder of an ablation.

    Args:
        run: folder that `train`, `two-readers` or `ablate` filled.
        out: file; RUN/report.html where not given.
    """

    run: Positional[Path]
    out: Path | None = None


def report(config: ReportConfig) -> Path:
    """Write the page and return its path.

    Raises:
        RunError: neither a run nor an ablation is there, or a file of it is malformed.
        ConfigError: settings that this version does not know.
    """
    summary, settings = config.run / ABLATION, RunFiles(config.run).settings
    if not summary.exists() and not settings.exists():
        raise RunError(
            f"{config.run}: expected {settings.name} of a run or {ABLATION} of an ablation, "
            "got neither: run `llgbm-latentwire train` first"
        )
    out = config.out or config.run / "report.html"
    check_output(out, config.run)
    tables = [config.run / EVALUATION, *(evaluation_file(config.run, each) for each in READERS)]
    answers = [path.with_suffix(".jsonl") for path in tables]
    read = [summary, config.run / TWO_READERS, *tables, *answers]
    if out.resolve() in {path.resolve() for path in read}:
        raise RunError(f"{out}: expected another file, got one that the report is made of")
    ablation = Ablation.read(summary) if summary.exists() else None
    run = gather(config.run) if settings.exists() else None
    write_text(out, render(run, ablation, config.run.resolve().name))
    print(f"report: {out}")
    return out
