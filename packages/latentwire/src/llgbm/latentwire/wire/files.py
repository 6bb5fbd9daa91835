"""Latent files on disk: written whole or not at all, read up to a size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from llgbm.deltas.atomic import write_bytes
from llgbm.deltas.errors import mismatch
from llgbm.latentwire.errors import LatentFileError
from llgbm.latentwire.wire.format import Packed, pack, unpack
from llgbm.latentwire.wire.quantise import BLOCK

if TYPE_CHECKING:
    from llgbm.latentwire.bottlenecks.base import DiscreteBottleneck

# 16 MiB: 16,384 slots of width 512 at fp16. Nothing larger is read unless asked for.
LARGEST_FILE = 1 << 24


def write_latents(
    path: Path | str,
    row: Tensor,
    scheme: str,
    *,
    reader: str,
    compressor: str,
    block: int = BLOCK,
    bottleneck: DiscreteBottleneck | None = None,
) -> int:
    """Write the latents [m, z] of one text; see `pack`.

    Returns:
        Bytes of the file.

    Raises:
        ConfigError: see `pack`.
        LatentFileError: see `pack`.
        OSError: disk full, no permission; the file is then as it was.
    """
    data = pack(
        row, scheme, reader=reader, compressor=compressor, block=block, bottleneck=bottleneck
    )
    write_bytes(path, data)
    return len(data)


def read_latents(
    path: Path | str,
    *,
    reader: str | None,
    compressor: str | None,
    width: int | None = None,
    largest: int = LARGEST_FILE,
) -> Packed:
    """Read a latent file; see `unpack`.

    Args:
        path: of the file.
        reader: sha256 in hex of the reader that is to read them; None takes any.
        compressor: sha256 in hex of the compressor; None takes any.
        width: z that is expected; None takes any.
        largest: bytes; a larger file is refused before it is read.

    Raises:
        LatentFileError: it cannot be read, is too large, or see `unpack`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LatentFileError(mismatch(path, "file", "a latent file", reason)) from error
    if len(data) > largest:
        raise LatentFileError(mismatch(path, "bytes", f"at most {largest}", "more"))
    return unpack(data, reader=reader, compressor=compressor, width=width, where=str(path))
