"""`llgbm-deltas compute`: fill a delta cache, many adapters a forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta, tokenized
from llgbm.deltas.fingerprint import adapter_fingerprint, base_fingerprint
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.spec import LoRASpec, device_of
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


@dataclass(frozen=True)
class Place:
    """An adapter's place in a forward, and whether its delta is missing."""

    id: str
    path: Path
    fingerprint: str
    missing: bool


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

    Every adapter has its place in a forward of exactly `adapters_per_forward`, by the order of
    ids, and places without work hold adapters that change nothing. Matrix products of one shape
    add up in one order at each place, so that a delta computed again has the same bits, whether
    alone or with all others of the folder.

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
    places: dict[LoRASpec, list[Place]] = {}
    for adapter_id, path in sorted(adapters.items()):
        check_base(path, base, base_model)
        weights = load_adapter(path)
        weights.spec.check_model(model)
        fingerprint = adapter_fingerprint(weights)
        missing = cache.get(adapter_id, fingerprint) is None
        places.setdefault(weights.spec, []).append(Place(adapter_id, path, fingerprint, missing))
        if not missing:
            reused.append(adapter_id)
    bar = tqdm(
        total=len(adapters) - len(reused),
        desc="deltas",
        unit="adapter",
        mininterval=1.0,
        disable=not progress,
    )
    with bar:
        for lora_spec, in_order in places.items():
            for start in range(0, len(in_order), adapters_per_forward):
                group = in_order[start : start + adapters_per_forward]
                if not any(place.missing for place in group):
                    continue
                together = _together(lora_spec, group, adapters_per_forward)
                together = together.to(device_of(model))
                deltas = compute_delta(model, together, tokens, spec, activation).cpu().numpy()
                good = {}
                for place, delta in zip(group, deltas, strict=False):
                    if place.missing and np.isfinite(delta).all():
                        good[place.id] = (place.fingerprint, delta)
                    elif place.missing:
                        broken.append(place.id)
                cache.put(good)
                computed += good
                bar.update(sum(place.missing for place in group))
    return ComputeSummary(tuple(computed), tuple(reused), tuple(broken))


def _together(spec: LoRASpec, group: Sequence[Place], size: int) -> LoRAWeights:
    """The adapters of a forward: those that are missing, zeros in all other places."""
    nothing = LoRAWeights.zeros(spec)
    loaded = [load_adapter(place.path) if place.missing else nothing for place in group]
    return LoRAWeights.concatenate([*loaded, *[nothing] * (size - len(group))])
