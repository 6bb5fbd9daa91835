"""Deltas of everything in a folder of adapters; what its cache lacks is computed first."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from llgbm.deltas.adapter_folders import find_teachers, model_weight_files
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.cache_contents import CacheContents, is_cache, read_contents
from llgbm.deltas.commands.compute import DEFAULT_PROBES, base_named_by
from llgbm.deltas.compute import compute_cache
from llgbm.deltas.errors import CacheError, ModelError, mismatch
from llgbm.deltas.fingerprint import (
    adapter_fingerprint,
    base_fingerprint,
    model_folder_fingerprint,
)
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas


@dataclass(frozen=True)
class FolderDeltas:
    """Deltas by id, and where what they belong to lies.

    Attributes:
        contents: of the cache.
        ids: N, sorted.
        deltas: [N, ...] float32.
        adapters: PEFT folders by id; empty where a cache alone was given.
        models: folders of full models by id; empty where a cache alone was given.
    """

    contents: CacheContents
    ids: list[str]
    deltas: Tensor
    adapters: Mapping[str, Path]
    models: Mapping[str, Path]


def read_folder(folder: Path, base_model: str) -> FolderDeltas:
    """Read a delta cache, or a folder of adapters with its cache in `deltas`.

    A folder's cache is filled first where it lacks something; a new one has the defaults of
    `llgbm-deltas compute`.

    Args:
        folder: cache, or folder of adapters and full models.
        base_model: name of the base; what the cache or the first adapter names where empty.

    Raises:
        CacheError: an empty or damaged cache.
        AdapterError: no adapters, or one that cannot be read.
        ModelError: something is missing and the base model cannot be loaded.
    """
    if is_cache(folder):
        contents = read_contents(folder)
        if not contents.fingerprints:
            raise CacheError(f"{folder}: expected at least one delta, got none")
        return FolderDeltas(contents, list(contents.fingerprints), contents.deltas(), {}, {})
    cache = folder / "deltas"
    stored = read_contents(cache) if is_cache(cache) else None
    name = base_model or (stored.key.base_model if stored else "")
    base = Path(name).expanduser() if name else None
    adapters, models = find_teachers(folder, base if base and base.is_dir() else None)
    broken: tuple[str, ...] = ()
    if stored is None or _missing(stored, adapters, models):
        name = name or base_named_by(adapters, models)
        model = needed_base_model(name, f"llgbm-deltas compute {folder} --base-model NAME")
        probes = stored.probes if stored else named_probes(DEFAULT_PROBES)
        spec = stored.spec if stored else recommended_deltas(model)
        summary = compute_cache(model, adapters, cache, probes, spec, name, models=models)
        broken = summary.broken
        for adapter_id in broken:
            print(f"{adapter_id}: left out: its delta holds NaN or Inf", file=sys.stderr)
    contents = read_contents(cache)
    ids = [name for name in sorted({**adapters, **models}) if name not in broken]
    if not ids:
        raise CacheError(f"{folder}: expected at least one delta, got none")
    return FolderDeltas(contents, ids, contents.deltas(ids), adapters, models)


def needed_base_model(name: str, command: str) -> Any:
    """Load a base model without which deltas cannot be computed.

    Raises:
        ModelError: it cannot be loaded; names the `command` to run where it can.
    """
    try:
        return load_base_model(name)[0]
    except ModelError as error:
        raise ModelError(f"{error}; deltas are missing: run `{command}`") from error


def check_cache_base(contents: CacheContents, model: Any) -> None:
    """Raise CacheError unless the cache was made with this base."""
    expected, got = contents.key.base_fingerprint, base_fingerprint(model)
    if expected != got:
        raise CacheError(mismatch(contents.folder, "base model", expected[:12], got[:12]))


def _missing(
    stored: CacheContents, adapters: Mapping[str, Path], models: Mapping[str, Path]
) -> bool:
    """Whether the cache lacks a delta, or has one of what lay there before."""
    prints = {name: adapter_fingerprint(load_adapter(path)) for name, path in adapters.items()}
    for name, path in models.items():
        prints[name] = model_folder_fingerprint(path, model_weight_files(path))
    if any(stored.fingerprints.get(name) != value for name, value in prints.items()):
        return True
    try:
        stored.deltas(list(prints))
    except CacheError:  # a damaged file is computed again
        return True
    return False
