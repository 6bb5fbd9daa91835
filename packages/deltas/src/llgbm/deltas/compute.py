"""`llgbm-deltas compute`: fill a delta cache, many adapters a forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta, tokenized
from llgbm.deltas.fingerprint import adapter_fingerprint, base_fingerprint
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights


@dataclass(frozen=True)
class ComputeSummary:
    """What a call did.

    Attributes:
        computed: ids whose delta was computed now.
        reused: ids whose delta was in the cache.
        broken: ids whose delta holds NaN or Inf; they are not stored.
    """

    computed: tuple[str, ...]
    reused: tuple[str, ...]
    broken: tuple[str, ...]


@torch.no_grad()
def compute_cache(
    model: nn.Module,
    adapters: Mapping[str, Path],
    folder: Path,
    probes: ProbeSet,
    spec: DeltaSpec,
    base_model: str = "",
    adapters_per_forward: int = 8,
    rebuild: bool = False,
    progress: bool = True,
) -> ComputeSummary:
    """Compute what the cache in `folder` lacks and store it.

    Every forward holds exactly `adapters_per_forward` adapters, the last one filled up with
    adapters that change nothing: matrix products of one shape add up in one order, so a second
    run from nothing gives the same bits.

    Args:
        model: frozen base.
        adapters: id -> PEFT folder.
        folder: of the cache.
        probes: texts.
        spec: what is read.
        base_model: name, for the manifest.
        adapters_per_forward: n of one forward.
        rebuild: begin the cache anew.
        progress: show a bar.

    Raises:
        AdapterError: an adapter cannot be read or was made for another base.
        CacheError: the folder holds another cache.
    """
    base = base_fingerprint(model)
    cache = DeltaCache.open(folder, base, probes, spec, base_model, rebuild)
    tokens = tokenized(model, probes)
    stored = cache.get_base()
    activation = torch.from_numpy(stored) if stored is not None else None
    if activation is None:
        activation = compute_base_activation(model, tokens, spec).cpu()
        cache.put_base(activation.numpy())
    computed: list[str] = []
    broken: list[str] = []
    reused: list[str] = []
    missing: dict[Any, list[tuple[str, Path, str]]] = {}
    for adapter_id, path in sorted(adapters.items()):
        check_base(path, base, base_model)
        weights = load_adapter(path)
        weights.spec.check_model(model)
        fingerprint = adapter_fingerprint(weights)
        if cache.get(adapter_id, fingerprint) is not None:
            reused.append(adapter_id)
        else:
            missing.setdefault(weights.spec, []).append((adapter_id, path, fingerprint))
    bar = tqdm(
        total=sum(map(len, missing.values())),
        desc="deltas",
        unit="adapter",
        mininterval=1.0,
        disable=not progress,
    )
    device = device_of(model)
    with bar:
        for same_spec, items in missing.items():
            for group in _groups(items, adapters_per_forward):
                loaded = [load_adapter(path) for _, path, _ in group]
                filler = adapters_per_forward - len(loaded)
                if filler:
                    loaded.append(LoRAWeights.zeros(same_spec, filler))
                together = LoRAWeights.concatenate(loaded).to(device)
                deltas = compute_delta(model, together, tokens, spec, activation).cpu().numpy()
                good = {}
                for (adapter_id, _, fingerprint), delta in zip(group, deltas, strict=False):
                    if np.isfinite(delta).all():
                        good[adapter_id] = (fingerprint, delta)
                    else:
                        broken.append(adapter_id)
                cache.put(good)
                computed += good
                bar.update(len(group))
    return ComputeSummary(tuple(computed), tuple(reused), tuple(broken))


def _groups(items: list[tuple[str, Path, str]], size: int) -> list[list[tuple[str, Path, str]]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
