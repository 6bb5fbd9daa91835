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
        "compare": Subcommand(
            "llgbm.bench.compare", "CompareConfig", "compare", "two result files side by side"
        ),
    },
)


def main() -> None:
    """Entry point of the command `llgbm-bench`."""
    sys.exit(CONSOLE.run(sys.argv[1:]))
