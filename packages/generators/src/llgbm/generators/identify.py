"""`llgbm identifiability`: what exposes an adapter that only matches a mean delta."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from llgbm.deltas.atomic import write_json
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import RunError, SettingError, mismatch, require_at_least
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import several_layers
from llgbm.deltas.spec import device_of
from llgbm.generators.evaluation.identifiability import (
    Verdicts,
    averaged,
    identifiability_table,
    identify,
)
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.probes import check_held_out


@dataclass(frozen=True)
class IdentifiabilityConfig:
    """Build the rank-1 adversary of a run's teachers and measure what exposes it.

    Args:
        run: run folder with teachers.
        held_out_probes: probes that the adversary does not see.
        teachers: the first teacher of so many tasks; 0 takes all tasks.
        out: JSON file; RUN/evaluation/identifiability.json where not given.
    """

    run: Path
    held_out_probes: str = "commonsense"
    teachers: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        require_at_least(0, teachers=self.teachers)
        if self.teachers == 1:
            raise SettingError("teachers: expected 0 or at least 2, to compare each with another")


def identifiability(config: IdentifiabilityConfig, model: nn.Module | None = None) -> Verdicts:
    """Measure, write the JSON file and print the table; means over teachers are returned.

    Raises:
        RunError: teachers of fewer than two tasks, some that change nothing, or another base
            model than theirs.
    """
    run = RunFolder(config.run)
    check_held_out(config.held_out_probes, "generic")  # which the adversary is made from
    probes = named_probes(config.held_out_probes)
    manifest = Manifest.read(run.manifest)
    firsts = {entry.task: entry for entry in reversed(manifest.adapters)}
    entries = [firsts[name] for name in manifest.tasks]
    if len(entries) < 2:
        raise RunError(mismatch(run.manifest, "adapters", "teachers of two tasks", len(entries)))
    entries = entries[: config.teachers or None]
    model, _ = manifest.base(run.manifest, model)
    teachers = manifest.load(run.checkpoints, entries)
    manifest.check_updates(run.manifest, entries, teachers)
    others = teachers.select([*range(1, teachers.n), 0])
    verdicts = identify(model, teachers, others, probes)
    found = averaged(verdicts)
    out = config.out or run.results.with_name("identifiability.json")
    write_json(
        out,
        {
            "scale": f"{manifest.base_model}, {teachers.n} teachers, one a task; "
            f"held-out probes {config.held_out_probes}; layers {list(several_layers(model))}",
            "environment": environment(
                int(manifest.settings["seed"]), device_of(model), next(model.parameters()).dtype
            ),
            "mean": {name: asdict(measured) for name, measured in found.items()},
            "teachers": {
                entry.id: {name: asdict(measured) for name, measured in verdict.items()}
                for entry, verdict in zip(entries, verdicts, strict=True)
            },
        },
    )
    print(identifiability_table(found))
    print(f"{out}: {teachers.n} teachers")
    return found
