"""The command `llgbm sideways`: checkpoints, their latent space, and what is looked for in it."""

from __future__ import annotations

from llgbm.deltas.console import Console, Subcommand

_HERE = "llgbm.generators.sideways"
CONSOLE = Console(
    "llgbm sideways",
    "llgbm-generators",
    "Learn the space of checkpoints of many runs, and steer through it.",
    {
        "collect": Subcommand(
            f"{_HERE}.collect", "CollectConfig", "collect", "checkpoints and their metrics"
        ),
        "train": Subcommand(
            f"{_HERE}.train", "SidewaysTrainConfig", "train_sideways", "fit the latent space"
        ),
        "predict": Subcommand(
            f"{_HERE}.predict", "PredictConfig", "predict", "metrics from weights alone"
        ),
        "pareto": Subcommand(
            f"{_HERE}.pareto", "ParetoConfig", "pareto", "checkpoints along a front of metrics"
        ),
        "interpolate": Subcommand(
            f"{_HERE}.interpolate",
            "InterpolateConfig",
            "interpolate",
            "the way between two checkpoints",
        ),
        "init": Subcommand(f"{_HERE}.init", "InitConfig", "init", "a start for wanted metrics"),
        "trajectory": Subcommand(
            f"{_HERE}.trajectory",
            "TrajectoryConfig",
            "trajectory",
            "where training would go from a checkpoint",
        ),
        "report": Subcommand(
            f"{_HERE}.report.make_report",
            "SidewaysReportConfig",
            "make_report",
            "a page of all of this",
        ),
    },
)
