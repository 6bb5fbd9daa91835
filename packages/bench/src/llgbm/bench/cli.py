"""The command `llgbm-bench`."""

from __future__ import annotations

import sys

from llgbm.deltas.console import Console, Subcommand

CONSOLE = Console(
    "llgbm-bench",
    "llgbm-bench",
    "Benchmarks: nothing is timed that has not first been checked.",
    {
        "delta-forward": Subcommand(
            "llgbm.bench.delta_forward",
            "DeltaForwardConfig",
            "delta_forward",
            "n adapters on p probes, against loops over adapters",
        ),
        "kernels": Subcommand(
            "llgbm.bench.kernels",
            "KernelsConfig",
            "kernels",
            "the linears of a decoder layer with n adapters, against every other way",
        ),
        "teach": Subcommand(
            "llgbm.bench.teach", "TeachConfig", "teach", "a training step of n teachers at once"
        ),
        "generator-step": Subcommand(
            "llgbm.bench.generator_step",
            "GeneratorStepConfig",
            "generator_step",
            "a generator's training step under each objective",
        ),
        "generate": Subcommand(
            "llgbm.bench.generate",
            "GenerateConfig",
            "generate",
            "adapters a second from conditions",
        ),
        "latentwire": Subcommand(
            "llgbm.bench.latentwire",
            "LatentwireConfig",
            "latentwire",
            "a prompt read as latents, against the same prompt read as text",
        ),
        "sideways": Subcommand(
            "llgbm.bench.sideways",
            "SidewaysConfig",
            "sideways",
            "a thousand checkpoints collected and fitted, and what memory that takes",
        ),
        "all": Subcommand(
            "llgbm.bench.suite", "AllConfig", "run_all", "everything, into a folder of results"
        ),
        "report": Subcommand(
            "llgbm.bench.report", "ReportConfig", "report", "plots of a folder of results"
        ),
        "compare": Subcommand(
            "llgbm.bench.compare", "CompareConfig", "compare", "two result files side by side"
        ),
    },
)


def main() -> None:
    """Entry point of the command `llgbm-bench`."""
    sys.exit(CONSOLE.run(sys.argv[1:]))
