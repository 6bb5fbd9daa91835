"""The command `llgbm-latentwire`."""

from __future__ import annotations

import sys

from llgbm.deltas.console import Console, Subcommand

CONSOLE = Console(
    "llgbm-latentwire",
    "llgbm-latentwire",
    "Prompt compression: the baselines that a compressor has to beat.",
    {
        "baselines": Subcommand(
            "llgbm.latentwire.measure", "BaselinesConfig", "baselines", "text, no context, budgets"
        )
    },
)


def main() -> None:
    """Entry point of the command `llgbm-latentwire`."""
    sys.exit(CONSOLE.run(sys.argv[1:]))
