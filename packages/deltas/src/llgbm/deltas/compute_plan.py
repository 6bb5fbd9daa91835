"""What a delta cache lacks: read off the folders before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.tuned_models import check_tuned_folder


@dataclass(frozen=True)
class Place:
    """An adapter's place in a forward, or a full model, and whether its delta is missing."""

    id: str
    path: Path
    fingerprint: str
    missing: bool = True


@dataclass(frozen=True)
class Group:
    """Adapters of one forward, of one spec."""

    spec: LoRASpec
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Plan:
    """Work that is left.

    Attributes:
        groups: forwards in which at least one adapter is missing.
        models: full models that are missing.
        reused: ids whose delta is in the cache.
    """

    groups: tuple[Group, ...]
    models: tuple[Place, ...]
    reused: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids to be computed, in the order of the work."""
        adapters = [place for group in self.groups for place in group.places if place.missing]
        return tuple(place.id for place in [*adapters, *self.models])


def read_adapters(
    model: nn.Module, adapters: Mapping[str, Path], base: str, base_model: str
) -> list[tuple[LoRASpec, Place]]:
    """Read every adapter, by id, and check that it was made for this base.

    Args:
        model: frozen base.
        adapters: id -> PEFT folder.
        base: fingerprint of the base.
        base_model: its name.

    Raises:
        AdapterError: one cannot be read or was made for another base.
        ModelError: the base lacks a module of one, or has it in another size.
    """
    found = []
    for adapter_id, path in sorted(adapters.items()):
        check_base(path, base, base_model)
        weights = load_adapter(path)
        weights.spec.check_model(model, path)
        found.append((weights.spec, Place(adapter_id, path, adapter_fingerprint(weights))))
    return found


def read_models(model: nn.Module, models: Mapping[str, Path]) -> list[Place]:
    """Check and fingerprint every full model, by id, without loading its weights.

    Raises:
        ModelError: one is of another architecture or size, or lacks a file.
    """
    return [
        Place(name, path, check_tuned_folder(path, model)) for name, path in sorted(models.items())
    ]


def make_plan(
    cache: DeltaCache,
    adapters: list[tuple[LoRASpec, Place]],
    models: list[Place],
    adapters_per_forward: int,
) -> Plan:
    """Compare what there is with what the cache holds.

    Args:
        cache: open.
        adapters: of `read_adapters`.
        models: of `read_models`.
        adapters_per_forward: places of a group; who shares a group does not depend on what is
            missing.
    """
    reused: list[str] = []

    def looked_up(place: Place) -> Place:
        missing = cache.get(place.id, place.fingerprint) is None
        if not missing:
            reused.append(place.id)
        return Place(place.id, place.path, place.fingerprint, missing)

    by_spec: dict[LoRASpec, list[Place]] = {}
    for spec, place in adapters:
        by_spec.setdefault(spec, []).append(looked_up(place))
    groups = [
        Group(spec, tuple(places[start : start + adapters_per_forward]))
        for spec, places in by_spec.items()
        for start in range(0, len(places), adapters_per_forward)
    ]
    left = tuple(group for group in groups if any(place.missing for place in group.places))
    full = tuple(place for place in map(looked_up, models) if place.missing)
    return Plan(left, full, tuple(reused))
