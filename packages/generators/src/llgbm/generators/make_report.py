"""`llgbm report`: report.html of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llgbm.generators.report.data import gather
from llgbm.generators.report.html import write_report
from llgbm.generators.runs import RunFolder
from llgbm.generators.vae.experiments.results import VAEResults


@dataclass(frozen=True)
class ReportConfig:
    """Write a self-contained report.html of an evaluated run, or of one with VAE experiments.

    Args:
        run: run folder.
        out: file; RUN/report.html where not given.
    """

    run: Path
    out: Path | None = None


def make_report(config: ReportConfig) -> Path:
    """Write the report and return its path.

    Raises:
        RunError: a part is missing, or there is nothing to report of.
        CacheError: the delta cache is missing or damaged.
    """
    run = RunFolder(config.run)
    out = config.out or run.report
    vaes = [VAEResults.read(path) for path in sorted(run.experiments.glob("vae-*.json"))]
    # A run of VAE experiments alone has no evaluation; every other report needs one.
    data = None if vaes and not run.results.exists() else gather(run)
    write_report(data, out, vaes)
    print(f"report: {out}")
    return out
