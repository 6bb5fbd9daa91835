"""The command `llgbm-deltas`."""

from __future__ import annotations

import sys

from llgbm.deltas.console import Console, Subcommand

_COMMANDS = "llgbm.deltas.commands"
CONSOLE = Console(
    "llgbm-deltas",
    "llgbm-deltas",
    "Behavioural deltas of LoRA adapters: compute, inspect, retrieve, merge.",
    {
        "compute": Subcommand(
            f"{_COMMANDS}.compute", "ComputeConfig", "compute", "fill a delta cache"
        ),
        "stats": Subcommand(f"{_COMMANDS}.stats", "StatsConfig", "stats", "norms and outliers"),
        "retrieve": Subcommand(
            f"{_COMMANDS}.retrieve", "RetrieveConfig", "retrieve", "nearest adapters by behaviour"
        ),
        "canonical": Subcommand(
            f"{_COMMANDS}.canonical", "CanonicalConfig", "canonical", "check canonical forms"
        ),
        "meaning": Subcommand(
            f"{_COMMANDS}.meaning", "MeaningConfig", "meaning", "compare across base models"
        ),
        "project": Subcommand(
            f"{_COMMANDS}.project", "ProjectConfig", "project", "deltas in a smaller width"
        ),
        "merge": Subcommand(f"{_COMMANDS}.merge", "MergeConfig", "merge", "one adapter of several"),
    },
)


def main() -> None:
    """Entry point of the command `llgbm-deltas`."""
    sys.exit(CONSOLE.run(sys.argv[1:]))
