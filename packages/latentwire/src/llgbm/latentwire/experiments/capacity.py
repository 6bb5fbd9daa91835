"""Capacity: what vectors optimised for one text at a time can tell the frozen reader."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from llgbm.deltas.atomic import write_json
from llgbm.deltas.environment import environment
from llgbm.latentwire.data.sources import SquadSourceConfig
from llgbm.latentwire.evaluation.oracle import OracleConfig, capacity_oracle
from llgbm.latentwire.experiments.presets import LatentwirePreset
from llgbm.latentwire.reader import load_reader, shown_name
from llgbm.latentwire.slots import SlotsConfig

KIND, SCHEMA = "latentwire capacity", 1
QUESTION = "How much of a text can as many vectors as latents carry at all?"
RATIO, LONGEST_TOKENS = 4.0, 64


def measure_capacity(preset: LatentwirePreset, name: str, path: Path) -> None:
    """Fit vectors to validation contexts, print recall, write the file; not done twice.

    Args:
        preset: how many samples and steps.
        name: of the reader.
        path: of the results.
    """
    if not path.exists():
        reader = load_reader(name)
        source = SquadSourceConfig(longest=preset.longest).open(0)
        examples = source.questions("validation")[: preset.oracle_samples]
        config = OracleConfig(SlotsConfig(RATIO), LONGEST_TOKENS, preset.oracle_steps, enough=0.99)
        found = capacity_oracle(reader, examples, config)
        recall = sum(found.recall) / len(found.recall)
        start = sum(found.start_recall) / len(found.start_recall)
        write_json(
            path,
            {
                "schema": SCHEMA,
                "kind": KIND,
                "question": QUESTION,
                "scale": f"{shown_name(name)}, {len(examples)} validation contexts "
                f"cut to {LONGEST_TOKENS} tokens, {RATIO:g} tokens a slot, "
                f"at most {preset.oracle_steps} steps",
                "environment": environment(0, reader.device, reader.dtype),
                **asdict(found),
            },
        )
        print(f"recall {recall:.3f}, {start:.3f} before the first of {found.steps} steps")
    print(path)
