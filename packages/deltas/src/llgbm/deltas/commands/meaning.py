"""`llgbm-deltas meaning`: adapters compared by what they do to fixed texts, across base models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch.nn import functional as F

from llgbm.deltas.adapter_folders import find_adapters
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.commands.compute import DEFAULT_PROBES, base_named_by
from llgbm.deltas.errors import AdapterError, CacheError, mismatch
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.meaning import CONTINUATIONS, compute_base_meaning, compute_meaning
from llgbm.deltas.meaning_files import Meanings
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.spec import device_of


@dataclass(frozen=True)
class MeaningConfig:
    """Say what adapters do to fixed answers, in numbers that compare across base models.

    An adapter's meaning is the change it brings to the log-likelihood per byte of short
    continuations after every probe. For each adapter the nearest of the others is listed, by
    cosine of their meanings; with `--beside` those of another folder, whose base may be another.

    Args:
        adapters: folder of adapters of one base, or a file that `--out` wrote.
        beside: the same of another base, made with the same probes.
        probes: as of `llgbm-deltas compute`; each has to fit whole.
        base_model: what the first adapter names where not given.
        out: JSON file of the meanings; nothing is written where not given.
    """

    adapters: Annotated[Path, tyro.conf.Positional]
    beside: Path | None = None
    probes: str = DEFAULT_PROBES
    base_model: str = ""
    out: Path | None = None


def meaning(config: MeaningConfig) -> None:
    """Print the table and write the file."""
    named_probes(config.probes)
    first = _meanings(config.adapters, config.probes, config.base_model)
    if config.out is not None:
        first.save(config.out)
    other = first if config.beside is None else _meanings(config.beside, config.probes, "")
    for key in ("probes", "continuations"):
        if getattr(first, key) != getattr(other, key):
            raise CacheError(
                f"{config.beside}: expected the {key} of {config.adapters}, got others"
            )
    print(_table(first, other))
    if config.out is not None:
        print(f"{config.out}: {len(first.ids)} meanings of {first.values.shape[1]} numbers")


def _meanings(path: Path, probe_names: str, base_model: str) -> Meanings:
    """Those in a file, or of the adapters in a folder."""
    if path.is_file():
        return Meanings.read(path)
    found = find_adapters(path)
    probes = named_probes(probe_names)
    base = base_model or base_named_by(found, {})
    model, _ = load_base_model(base)
    stored = base_fingerprint(model)
    base_meaning = compute_base_meaning(model, probes)
    rows = []
    for folder in found.values():
        check_base(folder, stored, base)
        weights = load_adapter(folder).to(device_of(model))
        with torch.no_grad():
            row = compute_meaning(model, weights, probes, base_meaning=base_meaning)[0].cpu()
        if not row.isfinite().all():
            raise AdapterError(mismatch(folder, "meaning", "finite values", "NaN or Inf"))
        rows.append(row)
    return Meanings(base, probes.texts, CONTINUATIONS, tuple(found), torch.stack(rows))


def _table(first: Meanings, other: Meanings) -> str:
    """Each adapter, what it raises and lowers most over the probes, and its nearest other."""
    cosines = F.normalize(first.values, dim=1) @ F.normalize(other.values, dim=1).mT
    if other is first:
        cosines.fill_diagonal_(-torch.inf)
    by_text = first.values.view(len(first.ids), len(first.probes), -1).mean(dim=1)
    width = max(map(len, (*first.ids, "adapter")))
    lines = [f"{'adapter':<{width}}  {'mean |nats|':>11}  raised most / lowered most; nearest"]
    for row, name in enumerate(first.ids):
        high, low = (first.continuations[int(index)] for index in _extremes(by_text[row]))
        place = int(cosines[row].argmax())
        nearest = f"{other.ids[place]} ({cosines[row, place]:.3f})"
        if other is first and len(first.ids) == 1:
            nearest = "-"
        size = first.values[row].abs().mean()
        lines.append(f"{name:<{width}}  {size:>11.4f}  {high!r} / {low!r}; {nearest}")
    return "\n".join(lines)


def _extremes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return values.argmax(), values.argmin()
