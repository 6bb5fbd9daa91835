"""The command `llgbm-latentwire`."""

from __future__ import annotations

import sys

from llgbm.deltas.console import Console, Subcommand

_COMMANDS = "llgbm.latentwire.commands"
CONSOLE = Console(
    "llgbm-latentwire",
    "llgbm-latentwire",
    "Compress a prompt into latents that a frozen model reads.",
    {
        "baselines": Subcommand(
            "llgbm.latentwire.evaluation.baselines",
            "BaselinesConfig",
            "baselines",
            "text, no context, token budgets: what a compressor has to beat",
        ),
        "tune-reader": Subcommand(
            "llgbm.latentwire.training.tune_reader",
            "TuneReaderConfig",
            "tune_reader",
            "teach a weak reader to answer from full text, once",
        ),
        "tiny-reader": Subcommand(
            f"{_COMMANDS}.tiny_reader",
            "TinyReaderCommandConfig",
            "tiny_reader",
            "a tiny reader for a first experiment, in less than a minute",
        ),
        "train": Subcommand(
            f"{_COMMANDS}.train", "TrainCommandConfig", "train", "train a compressor, then evaluate"
        ),
        "evaluate": Subcommand(
            f"{_COMMANDS}.evaluate", "EvaluateConfig", "evaluate_run", "every row of the table"
        ),
        "two-readers": Subcommand(
            f"{_COMMANDS}.two_readers",
            "TwoReadersCommandConfig",
            "two_readers",
            "one latent for two readers: train, evaluate, swap slots",
        ),
        "ablate": Subcommand(
            "llgbm.latentwire.experiments.ablate",
            "AblateConfig",
            "ablate",
            "every combination of swept settings",
        ),
        "experiment": Subcommand(
            "llgbm.latentwire.experiments.run",
            "ExperimentConfig",
            "experiment",
            "tables of the seed and the recipe, at three sizes",
        ),
        "bytes": Subcommand(
            f"{_COMMANDS}.bytes", "BytesConfig", "count_bytes", "what latents and texts take"
        ),
        "compress": Subcommand(
            f"{_COMMANDS}.compress", "CompressConfig", "compress", "a document as a latent file"
        ),
        "answer": Subcommand(
            f"{_COMMANDS}.answer", "AnswerConfig", "answer", "ask a latent file a question"
        ),
        "report": Subcommand(
            f"{_COMMANDS}.report", "ReportConfig", "report", "a run as one HTML page"
        ),
    },
)


def main() -> None:
    """Entry point of the command `llgbm-latentwire`."""
    sys.exit(CONSOLE.run(sys.argv[1:]))
