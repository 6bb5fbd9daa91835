"""Everything that a finished cache holds, read without its base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from llgbm.deltas.cache import MANIFEST, CacheKey, DeltaCache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import CacheError, LLGBMError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probes import ProbeSet


@dataclass(frozen=True)
class CacheContents:
    """A cache as its manifest describes it.

    Attributes:
        folder: where it lies.
        key: what its deltas share.
        probes: texts and tokenization policy.
        spec: what was read off the hidden states.
        fingerprints: of the adapters and models, by id, sorted.
    """

    folder: Path
    key: CacheKey
    probes: ProbeSet
    spec: DeltaSpec
    fingerprints: Mapping[str, str]

    def deltas(self, ids: list[str] | None = None) -> Tensor:
        """Deltas [N, ...] float32 of `ids`, or of all; see `DeltaCache.load_all`."""
        wanted = list(self.fingerprints) if ids is None else ids
        cache = DeltaCache(self.folder, self.key)
        return cache.load_all({name: self.fingerprints[name] for name in wanted})


def is_cache(folder: Path) -> bool:
    """Whether `folder` holds the manifest of a delta cache, damaged or not.

    Other folders have manifests too: those of adapters, for one.
    """
    if not (folder / MANIFEST).is_file():
        return False
    try:
        return "probe_fingerprint" in read_json(folder / MANIFEST, CacheError)
    except CacheError:
        return True


def read_contents(folder: Path) -> CacheContents:
    """Read the manifest of a cache.

    Raises:
        CacheError: no cache, or a damaged manifest.
    """
    file = folder / MANIFEST
    if not file.exists():
        raise CacheError(f"{file}: not found: run `llgbm-deltas compute` first")
    manifest: dict[str, Any] = read_json(file, CacheError)
    try:
        key = CacheKey(**{name: str(manifest[name]) for name in CacheKey.__dataclass_fields__})
        prints = {name: str(entry["fingerprint"]) for name, entry in manifest["adapters"].items()}
        # Caches of older versions do not name the cut; theirs was the default.
        cut = {"max_tokens": manifest["probe_max_tokens"]} if "probe_max_tokens" in manifest else {}
        probes = ProbeSet(tuple(manifest["probe_texts"]), name=key.probes, **cut)
        spec = DeltaSpec(**manifest["spec"])
    except LLGBMError:
        raise
    except KeyError as error:
        raise CacheError(
            f"{file}: expected the manifest of a delta cache, got one without {error}"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CacheError(f"{file}: expected a delta cache, got {error!r}") from error
    for words, expected, got in (
        ("probes", key.probe_fingerprint, probes.fingerprint),
        ("delta spec", key.delta_fingerprint, spec.fingerprint),
    ):
        if expected != got:
            raise CacheError(mismatch(file, words, expected[:12], got[:12]))
    return CacheContents(folder, key, probes, spec, dict(sorted(prints.items())))
