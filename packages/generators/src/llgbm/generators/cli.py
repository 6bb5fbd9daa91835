"""The command `llgbm`: one subcommand a step of the main job, in the order of the work."""

from __future__ import annotations

import sys

from llgbm.deltas.console import Console, Subcommand
from llgbm.generators.sideways.cli import CONSOLE as SIDEWAYS

_HERE = "llgbm.generators"
CONSOLE = Console(
    "llgbm",
    "llgbm-generators",
    "Write LoRA adapters from text, trained by behavioural matching.",
    {
        "demo": Subcommand(
            f"{_HERE}.demo", "DemoConfig", "demo", "all steps on the packaged model and tasks"
        ),
        "teach": Subcommand(
            f"{_HERE}.teachers.teach", "TeachConfig", "teach_command", "train teacher adapters"
        ),
        "import": Subcommand(
            f"{_HERE}.teachers.import_adapters",
            "ImportConfig",
            "import_command",
            "adapters trained elsewhere become a run's teachers",
        ),
        "train": Subcommand(
            f"{_HERE}.training.train", "TrainConfig", "train", "train a generator on teachers"
        ),
        "train-vae": Subcommand(
            f"{_HERE}.vae.train", "VAETrainConfig", "train_vae", "train a latent space of adapters"
        ),
        "sample": Subcommand(
            f"{_HERE}.vae.tools.sample", "SampleConfig", "sample", "several adapters for one text"
        ),
        "interpolate": Subcommand(
            f"{_HERE}.vae.tools.interpolate",
            "InterpolateConfig",
            "interpolate",
            "adapters on the way from one to another",
        ),
        "search": Subcommand(
            f"{_HERE}.vae.tools.search",
            "SearchConfig",
            "search",
            "the latent that does best on a task",
        ),
        "generate": Subcommand(
            f"{_HERE}.generate", "GenerateConfig", "generate", "write an adapter from text"
        ),
        "train-retriever": Subcommand(
            f"{_HERE}.retriever.train",
            "TrainRetrieverConfig",
            "train_retriever",
            "learn which delta a text asks for",
        ),
        "retrieve": Subcommand(
            f"{_HERE}.retriever.retrieve",
            "RetrieveTextConfig",
            "retrieve_text",
            "merge the teachers that a text asks for",
        ),
        "evaluate": Subcommand(
            f"{_HERE}.evaluate", "EvaluateConfig", "evaluate", "score all arms on held-out data"
        ),
        "experiment": Subcommand(
            f"{_HERE}.experiments.run",
            "ExperimentConfig",
            "run_experiment",
            "answer a question about the method, with intervals",
        ),
        "identifiability": Subcommand(
            f"{_HERE}.identify",
            "IdentifiabilityConfig",
            "identifiability",
            "what exposes an adapter that only matches a mean delta",
        ),
        "sideways": SIDEWAYS,
        "report": Subcommand(
            f"{_HERE}.make_report", "ReportConfig", "make_report", "write a run's report.html"
        ),
    },
    "The delta cache between teach and train is made by `llgbm-deltas compute`.",
)


def main() -> None:
    """Entry point of the command `llgbm`."""
    sys.exit(CONSOLE.run(sys.argv[1:]))
