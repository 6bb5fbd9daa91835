"""`llgbm-deltas canonical`: do canonical forms keep what adapters do, and forget how?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.adapter_folders import find_adapters
from llgbm.deltas.atomic import write_json
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.canonical.validation import FormCheck, check_forms
from llgbm.deltas.commands.compute import base_named_by
from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.same_rank import at_common_rank


@dataclass(frozen=True)
class CanonicalConfig:
    """Check canonical forms on the adapters of a folder (seed 000, phase 4b.0).

    Every form is taken and inverted: the update and the delta must come back. Each adapter is
    then given random gauges, B R and R⁻¹ A: a form's parts must not show them.

    Args:
        adapters: folder of adapters of one base; ranks may differ.
        limit: adapters checked, the first by id.
        gauges: random gauges of each.
        probes: that deltas are read on.
        base_model: what the first adapter names where not given.
        out: JSON file of the results; nothing is written where not given.
        seed: of the gauges.
    """

    adapters: Annotated[Path, tyro.conf.Positional]
    limit: int = 4
    gauges: int = 8
    probes: str = "generic"
    base_model: str = ""
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, limit=self.limit)
        require_at_least(2, gauges=self.gauges)
        require_seed(self.seed)


def canonical(config: CanonicalConfig) -> None:
    """Print the table and write the results."""
    found = find_adapters(config.adapters)
    probes = named_probes(config.probes)
    names = list(found)[: config.limit]
    folders = [found[name] for name in names]
    base = config.base_model or base_named_by(found, {})
    weights = at_common_rank([load_adapter(folder) for folder in folders], folders)
    model, _ = load_base_model(base)
    for folder in folders:
        check_base(folder, base_fingerprint(model), base)
    checks = check_forms(
        model, weights, probes, recommended_deltas(model), config.gauges, config.seed
    )
    print(_table(checks))
    print(f"{config.adapters}: {len(names)} adapters, {config.gauges} gauges of each")
    if config.out is not None:
        rows = {check.form: asdict(check) for check in checks}
        write_json(
            config.out,
            {"kind": "canonical", "base_model": base, "adapters": names, "gauges": config.gauges,
             "seed": config.seed, "forms": rows},
        )  # fmt: skip


def _table(checks: list[FormCheck]) -> str:
    head = ("form", "numbers", "inverse error", "delta cosine", "delta error", "gauge variance")
    lines = [f"{head[0]:<14}" + "".join(f"{name:>16}" for name in head[1:])]
    lines += [
        f"{c.form:<14}{c.numbers:>16,}{c.inverse_error:>16.1e}{c.delta_cosine:>16.6f}"
        f"{c.delta_error:>16.1e}{c.gauge_variance:>16.1e}"
        for c in checks
    ]
    return "\n".join(lines)
