"""What `llgbm-deltas retrieve` is asked about: an id, an adapter, or a saved delta."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas.adapter_folders import CONFIG
from llgbm.deltas.commands.folder_deltas import FolderDeltas, check_cache_base, needed_base_model
from llgbm.deltas.delta import compute_delta
from llgbm.deltas.delta_files import SUFFIXES, load_delta_file
from llgbm.deltas.errors import CacheError, mismatch
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.peft_format import check_base, load_adapter
from llgbm.deltas.spec import device_of


def resolve_query(like: str, store: FolderDeltas, base_model: str) -> tuple[Tensor, str | None]:
    """Return the delta that is asked about, and its id where it is one of the store.

    Args:
        like: id in the store, PEFT folder, or .npy or .safetensors file of a delta.
        store: deltas to be searched.
        base_model: name of the base, for an adapter whose delta is not stored; what the cache
            names where empty.

    Raises:
        CacheError: neither of these, another shape, or another base model than the cache's.
        AdapterError: an adapter that cannot be read or was made for another base.
        ModelError: the base model is needed and cannot be loaded, or lacks a module.
    """
    if like in store.ids:
        return store.deltas[store.ids.index(like)], like
    path = Path(like).expanduser()
    if (path / CONFIG).is_file():
        return _of_adapter(path, store, base_model)
    if path.suffix in SUFFIXES:
        delta, expected = load_delta_file(path), tuple(store.deltas.shape[1:])
        if tuple(delta.shape) != expected:
            raise CacheError(mismatch(path, "shape", expected, tuple(delta.shape)))
        return delta, None
    raise CacheError(
        f"{like}: expected an adapter of the cache ({', '.join(store.ids)}), the folder of one, or "
        f"a {' or '.join(SUFFIXES)} file, got none of them"
    )


def _of_adapter(path: Path, store: FolderDeltas, base_model: str) -> tuple[Tensor, str | None]:
    """The stored delta of an adapter in a folder, or a new one."""
    weights = load_adapter(path)
    fingerprint = adapter_fingerprint(weights)
    same = [name for name in store.ids if store.contents.fingerprints[name] == fingerprint]
    for name in same:
        at = store.adapters.get(name)
        itself = name == path.resolve().name if at is None else at.samefile(path)
        if itself:
            return store.deltas[store.ids.index(name)], name
    if same:  # a copy from elsewhere
        return store.deltas[store.ids.index(same[0])], None
    key = store.contents.key
    command = f"llgbm-deltas retrieve ... {path} --base-model NAME"
    model = needed_base_model(base_model or key.base_model, command)
    check_cache_base(store.contents, model)
    check_base(path, key.base_fingerprint, key.base_model)
    weights.spec.check_model(model, path)
    with torch.no_grad():
        weights = weights.to(device_of(model))
        delta = compute_delta(model, weights, store.contents.probes, store.contents.spec)[0].cpu()
    if not torch.isfinite(delta).all():
        raise CacheError(mismatch(path, "delta", "finite values", "NaN or Inf"))
    return delta, None
