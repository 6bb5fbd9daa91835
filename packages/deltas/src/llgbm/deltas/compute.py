"""`llgbm-deltas compute`: fill a delta cache, many adapters a forward."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.compute_plan import Group, Place, Plan, make_plan, read_adapters, read_models
from llgbm.deltas.delta import (
    DeltaSpec,
    check_layers,
    compute_base_activation,
    compute_delta,
    tokenized,
)
from llgbm.deltas.errors import CacheError
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.model_delta import check_comparable
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.probes import ProbeSet, TokenizedProbes
from llgbm.deltas.processes import Processes
from llgbm.deltas.short_attention import attention_of
from llgbm.deltas.spec import device_of
from llgbm.deltas.tuned_models import load_tuned_model
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
    models: Mapping[str, Path] | None = None,
    processes: Processes | None = None,
) -> ComputeSummary:
    """Compute what the cache in `folder` lacks and store it.

    Every adapter has its place in a forward of exactly `adapters_per_forward`, by the order of
    ids, and places without work hold adapters that change nothing. Matrix products of one shape
    add up in one order at each place, so that a delta computed again has the same bits, whether
    alone or with all others of the folder, in one process or in several (of as many threads).
    Full models are loaded one at a time.

    Args:
        model: frozen base; the same in every process.
        adapters: id -> PEFT folder.
        folder: of the cache.
        probes: texts.
        spec: what is read.
        base_model: name, for the manifest.
        adapters_per_forward: n of one forward.
        rebuild: begin the cache anew.
        progress: show a bar.
        models: id -> folder of a model fully tuned from the base.
        processes: those that share the work; every one of them calls this.

    Raises:
        AdapterError: an adapter cannot be read or was made for another base.
        ModelError: a full model cannot be read or does not compare with the base.
        CacheError: the folder holds another cache, or one computed by another forward; an id
            that stands for an adapter and a model.
        SettingError: a layer that the model lacks, or a probe longer than its context.
    """
    processes, models = processes or Processes(), models or {}
    twice = sorted(adapters.keys() & models.keys())
    if twice:
        raise CacheError(f"{twice[0]}: expected one adapter or model of that id, got both")
    check_layers(model, spec)
    tokens = tokenized(model, probes)
    forward = f"{device_of(model).type} {attention_of(model, tokens.input_ids.shape[1])}"
    base = base_fingerprint(model)

    def prepared() -> Plan:
        found = read_adapters(model, adapters, base, base_model)
        full = read_models(model, models)
        cache = DeltaCache.open(folder, base, probes, spec, base_model, rebuild)
        plan = make_plan(cache, found, full, adapters_per_forward)
        lacks_base = cache.get_base() is None
        if plan.missing or lacks_base:
            cache.check_forward(forward)
        if lacks_base:
            cache.put_base(compute_base_activation(model, tokens, spec).cpu().numpy(), forward)
        return plan

    # One process alone begins the cache, so that none wipes what another has stored.
    plan = processes.on_main(prepared)
    cache = DeltaCache.open(folder, base, probes, spec, base_model)
    work = _Work(model, cache, tokens, spec, adapters_per_forward)
    shown = progress and processes.is_main
    broken = processes.on_each(lambda: work.run(plan, processes, shown))
    bad = {name for part in processes.gathered(broken) for name in part}
    return ComputeSummary(
        tuple(name for name in plan.missing if name not in bad),
        plan.reused,
        tuple(name for name in plan.missing if name in bad),
    )


class _Work:
    """What the forwards of one process have in common."""

    def __init__(
        self,
        model: nn.Module,
        cache: DeltaCache,
        tokens: TokenizedProbes,
        spec: DeltaSpec,
        adapters_per_forward: int,
    ) -> None:
        stored = cache.get_base()
        if stored is None:
            raise CacheError(f"{cache.folder}: expected the base activation just stored, got none")
        self.model, self.cache, self.tokens, self.spec = model, cache, tokens, spec
        self.activation: Tensor = torch.from_numpy(stored)
        self.adapters_per_forward = adapters_per_forward

    def run(self, plan: Plan, processes: Processes, progress: bool) -> list[str]:
        """Compute this process's share; return the ids that are broken."""
        groups, models = processes.share(plan.groups), processes.share(plan.models)
        broken: list[str] = []
        total = sum(place.missing for group in groups for place in group.places) + len(models)
        with tqdm(
            total=total, desc="deltas", unit="adapter", mininterval=1.0, disable=not progress
        ) as bar:
            for group in groups:
                broken += self._store(group.places, self._adapters(group))
                bar.update(sum(place.missing for place in group.places))
            for place in models:
                broken += self._store([place], self._model(place))
                bar.update(1)
        return broken

    def _adapters(self, group: Group) -> NDArray[np.float32]:
        together = _together(group, self.adapters_per_forward).to(device_of(self.model))
        deltas = compute_delta(self.model, together, self.tokens, self.spec, self.activation)
        return deltas.cpu().numpy()

    def _model(self, place: Place) -> NDArray[np.float32]:
        tuned = load_tuned_model(place.path, self.model)
        check_comparable(self.model, tuned)
        delta = compute_base_activation(tuned, self.tokens, self.spec).cpu() - self.activation
        # Modules refer to themselves: without a collection two models would be held at a time.
        del tuned
        gc.collect()
        if device_of(self.model).type == "cuda":
            torch.cuda.empty_cache()
        return delta[None].numpy()

    def _store(
        self, places: tuple[Place, ...] | list[Place], deltas: NDArray[np.float32]
    ) -> list[str]:
        """Store the deltas that were missing; return the ids of those with NaN or Inf."""
        new = [(p, d) for p, d in zip(places, deltas, strict=False) if p.missing]
        good = [(place, delta) for place, delta in new if np.isfinite(delta).all()]
        self.cache.put({place.id: (place.fingerprint, delta) for place, delta in good})
        return [place.id for place, delta in new if not np.isfinite(delta).all()]


def _together(group: Group, size: int) -> LoRAWeights:
    """The adapters of a forward: those that are missing, zeros in all other places."""
    nothing = LoRAWeights.zeros(group.spec)
    loaded = [load_adapter(p.path) if p.missing else nothing for p in group.places]
    return LoRAWeights.concatenate([*loaded, *[nothing] * (size - len(group.places))])
