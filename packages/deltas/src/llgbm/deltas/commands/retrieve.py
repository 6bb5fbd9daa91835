"""`llgbm-deltas retrieve`: the adapters that behave most like one, and their merge."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from llgbm.deltas.commands.folder_deltas import FolderDeltas, read_folder
from llgbm.deltas.commands.queries import resolve_query
from llgbm.deltas.errors import AdapterError, CacheError, SettingError, require_at_least
from llgbm.deltas.merge_folders import merge_folders
from llgbm.deltas.merging import MergeMethod, require_density
from llgbm.deltas.peft_format import check_output
from llgbm.deltas.retrieval import retrieve as nearest


@dataclass(frozen=True)
class RetrieveConfig:
    """List the nearest adapters by cosine of their deltas, best first; merge them on demand.

    Args:
        adapters: folder of adapters, whose cache (`deltas` in it) is filled first where it lacks
            something, or a delta cache.
        like: what is asked about: id of an adapter there, folder of any adapter of the same base,
            or a saved delta (.npy or .safetensors).
        k: how many to list, the adapter asked about not counted.
        json: print JSON.
        base_model: where deltas have to be computed; what the cache or the first adapter names
            where not given.
        merge: folder of a new adapter, merged from those listed.
        method: average (exact, truncated to rank r), ties or dare.
        coefficients: of the merge: equal, or in proportion to the cosines, all above 0.
        r: rank of the merged adapter; the largest among those listed where 0.
        density: share of entries that ties and dare keep.
        overwrite: replace `merge` where it holds an adapter.
    """

    adapters: Annotated[Path, tyro.conf.Positional]
    like: Annotated[str, tyro.conf.Positional]
    k: int = 5
    json: bool = False
    base_model: str = ""
    merge: Path | None = None
    method: MergeMethod = "average"
    coefficients: Literal["equal", "cosine"] = "equal"
    r: int = 0
    density: float = 0.5
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, k=self.k)
        require_at_least(0, r=self.r)
        require_density(self.density)


def retrieve(config: RetrieveConfig) -> None:
    """Print ids and cosines, nearest first, and write their merge where asked for."""
    if config.merge is not None:
        check_output(config.merge, config.overwrite)
    store = read_folder(config.adapters, config.base_model)
    query, itself = resolve_query(config.like, store, config.base_model)
    if not query.any():
        raise CacheError(
            f"{config.like}: delta: expected one that is not zero, got zeros: nothing is near them"
        )
    indices, cosines = nearest(query, store.deltas, config.k + 1)
    rows = zip(indices.tolist(), cosines.tolist(), strict=True)
    found = [(store.ids[i], cosine) for i, cosine in rows if store.ids[i] != itself][: config.k]
    if config.merge is not None:
        _merge(config, store, found, config.merge)
    if config.json:
        print(json.dumps(_described(config, store, found), indent=2))
        return
    for name, cosine in found:
        print(f"{cosine:7.4f}  {name}")
    if not found:
        print(f"{config.adapters}: no adapter but {itself}")
    if config.merge is not None:
        print(f"{config.merge}: {len(found)} adapters merged ({config.method})")


def _merge(
    config: RetrieveConfig, store: FolderDeltas, found: list[tuple[str, float]], out: Path
) -> None:
    if not store.adapters:
        raise AdapterError(
            f"merge: expected the folder of the adapters, got their deltas alone: {config.adapters}"
        )
    full = [name for name, _ in found if name in store.models]
    if full:
        raise AdapterError(f"merge: {full[0]}: expected an adapter, got a full model")
    if not found:
        raise AdapterError("merge: expected at least one other adapter, got none")
    coefficients = None
    if config.coefficients == "cosine":
        cosines = [cosine for _, cosine in found]
        if min(cosines) <= 0:
            raise SettingError(
                f"coefficients: expected cosines above 0, got {min(cosines):.4f} for "
                f"{found[cosines.index(min(cosines))][0]}: lower k"
            )
        # Means of 1/n, or of 1 for ties, which takes a mean itself: as of equal coefficients.
        total = len(found) if config.method == "ties" else 1.0
        coefficients = [total * cosine / sum(cosines) for cosine in cosines]
    merge_folders(
        [store.adapters[name] for name, _ in found],
        out,
        config.method,
        coefficients,
        config.r or None,
        config.density,
        config.overwrite,
    )


def _described(
    config: RetrieveConfig, store: FolderDeltas, found: list[tuple[str, float]]
) -> dict[str, object]:
    places = {**store.adapters, **store.models}
    rows = [
        {"id": name, "cosine": cosine, **({"path": str(places[name])} if name in places else {})}
        for name, cosine in found
    ]
    merged = {} if config.merge is None else {"merged": str(config.merge)}
    return {"query": config.like, "nearest": rows, **merged}
