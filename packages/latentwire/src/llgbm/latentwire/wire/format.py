"""Latent files (.lw): one text's latents as bytes, and back; see header.py for the layout."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llgbm.deltas.errors import mismatch
from llgbm.latentwire.errors import ConfigError, LatentFileError
from llgbm.latentwire.latents import stack
from llgbm.latentwire.wire.bits import pack_bits, unpack_bits
from llgbm.latentwire.wire.header import CHECKSUM, CODES, FLOAT, SCALED, Header, parse_header
from llgbm.latentwire.wire.quantise import (
    BLOCK,
    LARGEST_HALF,
    dequantise,
    largest_code,
    quantise,
)

if TYPE_CHECKING:
    from llgbm.latentwire.bottlenecks.base import DiscreteBottleneck


@dataclass(frozen=True)
class Packed:
    """What a latent file says.

    Attributes:
        header: sizes and fingerprints.
        values: [m, z] float32; None where the file holds codes.
        codes: [m, groups] int64; None where it holds values.
    """

    header: Header
    values: Tensor | None = None
    codes: Tensor | None = None

    def row(self, bottleneck: DiscreteBottleneck | None = None) -> Tensor:
        """Latents [m, z] float32.

        Args:
            bottleneck: whose codebooks the codes are of; not read where the file holds values.

        Raises:
            LatentFileError: codes and no bottleneck, or one of other codebooks.
        """
        if self.values is not None:
            return self.values
        assert self.codes is not None
        held = self.header
        expected = (held.width, held.groups, held.codebook)
        got = bottleneck and (bottleneck.width, bottleneck.groups, bottleneck.codebook)
        if bottleneck is None or got != expected:
            what = "bottleneck's width, groups and codebook"
            raise LatentFileError(mismatch("codes", what, expected, got or "no bottleneck"))
        return bottleneck.from_codes(self.codes[None])[0]


def pack(
    row: Tensor,
    scheme: str,
    *,
    reader: str,
    compressor: str,
    block: int = BLOCK,
    bottleneck: DiscreteBottleneck | None = None,
) -> bytes:
    """Latents of one text as the bytes of a file.

    Args:
        row: [m, z] float32, real slots only.
        scheme: `fp16`, `int8`, `int6`, `int4` or `codes`.
        reader: sha256 of the reader that the latents are for, in hex.
        compressor: sha256 of the compressor, in hex; see `compressor_fingerprint`.
        block: channels that share a scale (int schemes); 0 for a scale a slot.
        bottleneck: whose codes are written (`codes`).

    Raises:
        ConfigError: an unknown scheme, sizes out of bounds, codes without a bottleneck, or no
            sha256.
        LatentFileError: no slots, NaN or Inf, or latents too large for the scheme.
    """
    values = _checked(row)
    prints = short_fingerprint(reader, "reader"), short_fingerprint(compressor, "compressor")
    if scheme == "codes":
        if bottleneck is None:
            raise ConfigError("scheme codes: expected a bottleneck with codebooks, got none")
        codes = bottleneck.codes(stack([values]))[0]
        return _pack_codes(codes, bottleneck, prints)
    slots, width = values.shape
    header = Header(scheme, slots, width, *prints, block=0 if scheme == "fp16" else block)
    top = LARGEST_HALF * (1 if header.kind == FLOAT else largest_code(header.bits))
    most = float(values.abs().max())
    if most > top:
        raise LatentFileError(
            mismatch("latents", f"size for {scheme}", f"at most {top:g}", f"{most:g}")
        )
    if header.kind == FLOAT:
        return _sealed(header, _halves(values))
    numbers, scales = quantise(values, header.bits, block)
    flat = numbers.cpu().numpy().reshape(-1).astype(np.int64)
    return _sealed(header, pack_bits(flat + largest_code(header.bits), header.bits), scales)


def _pack_codes(
    codes: Tensor, bottleneck: DiscreteBottleneck, prints: tuple[bytes, bytes]
) -> bytes:
    """Codes [m, groups] as the bytes of a file."""
    header = Header(
        "codes",
        len(codes),
        bottleneck.width,
        *prints,
        groups=bottleneck.groups,
        codebook=bottleneck.codebook,
    )
    return _sealed(header, pack_bits(codes.cpu().numpy().reshape(-1), header.bits))


def unpack(
    data: bytes,
    *,
    reader: str | None,
    compressor: str | None,
    width: int | None = None,
    where: str = "latents",
) -> Packed:
    """Inverse of `pack`: exactly the rounded latents, or the codes.

    Packing the values again with the same scheme and block gives values of the same bits.

    Args:
        data: of a file.
        reader: sha256 in hex of the reader that is to read them; None takes any.
        compressor: sha256 in hex of the compressor; None takes any.
        width: z that is expected; None takes any.
        where: what to call the data in messages, as a path.

    Raises:
        LatentFileError: no latent file, another version, truncated, trailing bytes, damaged, no
            slots, numbers out of range, or another reader, compressor or width.
    """
    header = parse_header(data, where)
    body, sum_ = data[:-CHECKSUM], data[-CHECKSUM:]
    found = zlib.crc32(body).to_bytes(CHECKSUM, "little")
    if found != sum_:
        raise LatentFileError(mismatch(where, "checksum", sum_.hex(), found.hex()))
    for name, wanted in (("reader", reader), ("compressor", compressor)):
        got = getattr(header, name)
        if wanted is not None and got != short_fingerprint(wanted, name):
            short = short_fingerprint(wanted, name).hex()
            raise LatentFileError(mismatch(where, name, short, got.hex()))
    if width is not None and header.width != width:
        raise LatentFileError(mismatch(where, "width", width, header.width))
    payload = body[header.header_bytes :][: header.payload_bytes]
    if header.kind == FLOAT:
        values = _from_halves(payload, where, "latents").reshape(header.slots, header.width)
        return Packed(header, values=values.float())
    try:
        numbers = unpack_bits(payload, header.numbers, header.bits)
    except ValueError as error:
        raise LatentFileError(f"{where}: {error}") from error
    most = header.codebook - 1 if header.kind == CODES else 2 * largest_code(header.bits)
    if int(numbers.max()) > most:
        raise LatentFileError(mismatch(where, "codes", f"at most {most}", int(numbers.max())))
    if header.kind == CODES:
        codes = torch.from_numpy(numbers).reshape(header.slots, header.groups)
        return Packed(header, codes=codes)
    assert header.kind == SCALED
    scales = _from_halves(body[len(body) - header.scale_bytes :], where, "scales")
    if torch.signbit(scales).any():
        raise LatentFileError(mismatch(where, "scales", "none below 0", float(scales.min())))
    centred = torch.from_numpy(numbers - largest_code(header.bits))
    shaped = centred.reshape(header.slots, header.width)
    return Packed(header, values=dequantise(shaped, scales, header.block))


def short_fingerprint(fingerprint: str, what: str) -> bytes:
    """First 16 bytes of a sha256 given in hex.

    Raises:
        ConfigError: no sha256.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ConfigError(mismatch(what, "fingerprint", "sha256 in hex", repr(fingerprint)))
    return bytes.fromhex(fingerprint)[:16]


def _checked(row: Tensor) -> Tensor:
    """Latents [m, z] as float32, refused where no file can hold them."""
    if row.ndim != 2 or not row.is_floating_point() or not row.numel():
        raise LatentFileError(
            mismatch(
                "latents", "shape", "real numbers [m, z], not empty", (tuple(row.shape), row.dtype)
            )
        )
    values = row.detach().float()
    if not values.isfinite().all():
        raise LatentFileError(mismatch("latents", "values", "finite numbers", "NaN or Inf"))
    return values


def _sealed(header: Header, payload: bytes, scales: Tensor | None = None) -> bytes:
    """Header, payload, scales and checksum in a row."""
    body = header.to_bytes() + payload + (b"" if scales is None else _halves(scales))
    data = body + zlib.crc32(body).to_bytes(CHECKSUM, "little")
    assert len(data) == header.file_bytes
    return data


def _halves(values: Tensor) -> bytes:
    return values.half().cpu().numpy().astype("<f2").tobytes()


def _from_halves(data: bytes, where: str, what: str) -> Tensor:
    """fp16 numbers; NaN and Inf are refused."""
    values = torch.from_numpy(np.frombuffer(data, dtype="<f2").astype(np.float16))
    if not values.isfinite().all():
        raise LatentFileError(mismatch(where, what, "finite numbers", "NaN or Inf"))
    return values
