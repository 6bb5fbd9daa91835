"""DeltaCache: deltas on disk, keyed by base model, probes with spec, and adapter.

Layout (seed 002): `manifest.json`, `base_activation.npy` and one `<adapter id>.npy` an adapter.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from llgbm.deltas.atomic import write_bytes, write_json
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import CacheError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probes import ProbeSet

FORMAT = 1
MANIFEST, BASE = "manifest.json", "base_activation.npy"
Array = NDArray[np.float32]


@dataclass(frozen=True)
class CacheKey:
    """What all deltas of a cache share; its fields stand in the manifest."""

    base_model: str
    base_fingerprint: str
    probes: str
    probe_fingerprint: str
    delta_fingerprint: str


class DeltaCache:
    """A folder of deltas; two processes may share it.

    Use `DeltaCache.open`.
    """

    def __init__(self, folder: Path, key: CacheKey) -> None:
        self.folder, self.key = folder, key

    @classmethod
    def open(
        cls,
        folder: Path | str,
        base_fingerprint: str,
        probes: ProbeSet,
        spec: DeltaSpec,
        base_model: str = "",
        rebuild: bool = False,
    ) -> DeltaCache:
        """Open a cache, or begin one.

        Args:
            folder: where it lies.
            base_fingerprint: of the base model.
            probes: texts and tokenization policy.
            spec: what is read off the hidden states.
            base_model: name, for people.
            rebuild: begin anew where the folder holds another cache or a damaged manifest.

        Raises:
            CacheError: the folder's deltas were made with something else, or its manifest is
                damaged.
        """
        key = CacheKey(
            base_model, base_fingerprint, probes.name, probes.fingerprint, spec.fingerprint
        )
        cache = cls(Path(folder), key)
        with cache._locked():
            if rebuild or not cache._manifest_path.exists():
                described = {
                    "spec": asdict(spec),
                    "probe_texts": list(probes.texts),
                    "probe_max_tokens": probes.max_tokens,
                }
                cache._write({"format": FORMAT, **asdict(key), **described, "adapters": {}})
            else:
                cache._check(cache._read())
        return cache

    @property
    def _manifest_path(self) -> Path:
        return self.folder / MANIFEST

    def ids(self) -> list[str]:
        """Ids of the cached adapters, sorted."""
        return sorted(self._read()["adapters"])

    def get(self, adapter_id: str, fingerprint: str) -> Array | None:
        """Return the delta of an adapter, or None where it is missing, stale or damaged.

        Raises:
            CacheError: an id that cannot name a file, or names one of the cache's own.
        """
        file = self._file(adapter_id)
        entry = self._read()["adapters"].get(adapter_id)
        if entry is None or entry.get("fingerprint") != fingerprint:
            return None
        return _read_array(file, entry.get("sha256"))

    def put(self, deltas: Mapping[str, tuple[str, Array]]) -> None:
        """Store deltas.

        Args:
            deltas: id -> (adapter fingerprint, float32 array).

        Raises:
            CacheError: NaN or Inf, or an id as in `get`; nothing is stored then.
        """
        entries, files = {}, {}
        for adapter_id, (fingerprint, delta) in deltas.items():
            if not np.isfinite(delta).all():
                raise CacheError(mismatch(self.folder, adapter_id, "finite values", "NaN or Inf"))
            data = files[self._file(adapter_id)] = _array_bytes(delta)
            entries[adapter_id] = {
                "fingerprint": fingerprint,
                "sha256": hashlib.sha256(data).hexdigest(),
                "shape": list(delta.shape),
                "norm": float(np.linalg.norm(delta.astype(np.float64))),
            }
        # The files first: a manifest never names a delta that is not there.
        for file, data in files.items():
            write_bytes(file, data)
        with self._locked():
            manifest = self._read()
            self._check(manifest)
            manifest["adapters"] = dict(sorted({**manifest["adapters"], **entries}.items()))
            self._write(manifest)

    def get_base(self) -> Array | None:
        """Return the base activation, or None where it is missing or damaged."""
        return _read_array(self.folder / BASE, self._read().get("base_activation_sha256"))

    def put_base(self, activation: Array, forward: str = "") -> None:
        """Store the base activation, and by which forward it and all deltas are computed.

        Args:
            activation: float32.
            forward: see `check_forward`.
        """
        data = _array_bytes(activation)
        write_bytes(self.folder / BASE, data)
        with self._locked():
            manifest = self._read()
            self._check(manifest)
            digest = hashlib.sha256(data).hexdigest()
            self._write({**manifest, "base_activation_sha256": digest, "forward": forward})

    def check_forward(self, forward: str) -> None:
        """Refuse to add to deltas that another forward computed.

        A delta is the difference of two forwards. Where one attends by plain products and the
        other by flash attention, or one ran on a GPU, the difference in rounding would pass for a
        delta. What is stored stays readable: each delta there had both halves by one forward.

        Args:
            forward: device type and attention implementation, such as `cpu sdpa`.

        Raises:
            CacheError: the cache holds something computed by another forward, or by one that it
                does not name (written before caches named theirs).
        """
        manifest = self._read()
        got = manifest.get("forward") or "one that is not named"
        holds = manifest["adapters"] or "base_activation_sha256" in manifest
        if holds and got != forward:
            raise CacheError(
                mismatch(self._manifest_path, "forward of the stored deltas", forward, got)
                + ": they would differ from new ones in rounding; choose another folder or "
                "--rebuild"
            )

    def load_all(self, adapters: Mapping[str, str]) -> Tensor:
        """Load many deltas.

        Args:
            adapters: id -> adapter fingerprint, in the wanted order.

        Returns:
            [N, ...] float32.

        Raises:
            CacheError: no adapters, or a delta that is missing, stale, damaged or of another shape.
        """
        if not adapters:
            raise CacheError(f"{self.folder}: expected at least one adapter to load, got none")
        arrays: list[Tensor] = []
        for adapter_id, fingerprint in adapters.items():
            array = self.get(adapter_id, fingerprint)
            if array is None:
                raise CacheError(
                    f"{self.folder}: {adapter_id}: expected a delta of this adapter, got none or "
                    "a damaged one: run `llgbm-deltas compute` again"
                )
            arrays.append(torch.from_numpy(array))
            expected, got = arrays[0].shape, arrays[-1].shape
            if expected != got:
                words = f"{adapter_id}: shape"
                raise CacheError(mismatch(self.folder, words, tuple(expected), tuple(got)))
        return torch.stack(arrays)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            yield

    def _file(self, adapter_id: str) -> Path:
        """The file of an adapter's delta."""
        if Path(adapter_id).name != adapter_id or adapter_id in ("", Path(BASE).stem):
            words = f"the name of a file, other than {Path(BASE).stem}"
            raise CacheError(mismatch(self.folder, "adapter id", words, repr(adapter_id)))
        return self.folder / f"{adapter_id}.npy"

    def _read(self) -> dict[str, Any]:
        hint = "; `llgbm-deltas compute --rebuild` begins anew"
        try:
            manifest = read_json(self._manifest_path, CacheError)
        except CacheError as error:
            raise CacheError(f"{error}{hint}") from error
        if manifest.get("format") != FORMAT:
            raise CacheError(
                mismatch(self._manifest_path, "format", FORMAT, manifest.get("format")) + hint
            )
        adapters = manifest.get("adapters")
        if not isinstance(adapters, dict) or not all(
            isinstance(entry, dict) for entry in adapters.values()
        ):
            words = "an object of objects"
            raise CacheError(mismatch(self._manifest_path, "adapters", words, adapters) + hint)
        return manifest

    def _write(self, manifest: Mapping[str, Any]) -> None:
        write_json(self._manifest_path, manifest)

    def _check(self, manifest: Mapping[str, Any]) -> None:
        """Refuse a cache made with another base, other probes or another spec."""
        for name, words in (
            ("base_fingerprint", "base model"),
            ("probe_fingerprint", "probes"),
            ("delta_fingerprint", "delta spec"),
        ):
            expected, got = getattr(self.key, name), manifest.get(name)
            if expected != got:
                raise CacheError(
                    mismatch(self._manifest_path, words, str(expected)[:12], str(got)[:12])
                    + ": the cache was made with something else; choose another folder or --rebuild"
                )


def _array_bytes(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def _read_array(path: Path, sha256: str | None) -> Array | None:
    """Return the array, or None unless the file is exactly the one that was written."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != sha256:
        return None
    array: Array = np.load(io.BytesIO(data), allow_pickle=False)
    return array
