"""`llgbm report`: report.html of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llgbm.generators.report.data import gather
from llgbm.generators.report.html import write_report
from llgbm.generators.runs import RunFolder


@dataclass(frozen=True)
class ReportConfig:
    """Write a self-contained report.html of an evaluated run.

    Args:
        run: run folder.
        out: file; RUN/report.html where not given.
    """

    run: Path
    out: Path | None = None


def make_report(config: ReportConfig) -> Path:
    """Write the report and return its path."""
    run = RunFolder(config.run)
    out = config.out or run.report
    write_report(gather(run), out)
    print(f"report: {out}")
    return out
