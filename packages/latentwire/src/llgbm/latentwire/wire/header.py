"""What stands before the numbers of a latent file.

All numbers are little-endian. `m` slots of width `z`:

    byte   0        2        3        4        6        8              24                  40
           +--------+--------+--------+--------+--------+--------------+-------------------+
           | "LW"   | version| flags  |   m    |   z    | reader       | compressor        |
           +--------+--------+--------+--------+--------+--------------+-------------------+
                                                          first 16 bytes of sha256, each

    flags  | kind (bits 4-5: 0 float, 1 scaled whole numbers, 2 codes) | bits a number - 1 (0-3) |

    kind   then                                                      in all
    0      nothing                                                   40 bytes
    1      u16: channels of all slots that share a scale;            42 bytes
           0: a scale a slot
    2      u16: codes a slot; u16: entries of a codebook - 1         44 bytes

The numbers follow, packed without gaps, then fp16 scales (kind 1), then a CRC-32 (4 bytes) of
all that stands before it. CRC-32 tells any flip of up to 32 neighbouring bits; it is no signature.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from llgbm.deltas.errors import mismatch
from llgbm.latentwire.errors import ConfigError, LatentFileError
from llgbm.latentwire.wire.bits import bits_of, packed_size
from llgbm.latentwire.wire.quantise import INT_BITS, scale_count

MAGIC = b"LW"
VERSION = 1
FLOAT, SCALED, CODES = range(3)
FIXED = struct.Struct("<2sBBHH16s16s")
EXTRA = {FLOAT: struct.Struct(""), SCALED: struct.Struct("<H"), CODES: struct.Struct("<HH")}
CHECKSUM = 4
LARGEST_COUNT = (1 << 16) - 1
LARGEST_CODEBOOK = 1 << 16
LEAST = FIXED.size + CHECKSUM
# Scheme -> (kind, bits); the bits of codes are those of their codebook.
SCHEMES = {
    "fp16": (FLOAT, 16),
    **{f"int{bits}": (SCALED, bits) for bits in INT_BITS},
    "codes": (CODES, 0),
}


@dataclass(frozen=True)
class Header:
    """What the numbers are.

    Attributes:
        scheme: one of `SCHEMES`.
        slots: m.
        width: z.
        reader: first 16 bytes of the reader's fingerprint.
        compressor: the same of the compressor.
        block: channels that share a scale; 0 for a scale a slot. Scaled whole numbers only.
        groups: codes a slot. Codes only.
        codebook: entries of a codebook, 2 to 65,536. Codes only.

    Raises:
        ConfigError: an unknown scheme, or a number out of bounds.
    """

    scheme: str
    slots: int
    width: int
    reader: bytes
    compressor: bytes
    block: int = 0
    groups: int = 0
    codebook: int = 0

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ConfigError(f"scheme: expected one of {', '.join(SCHEMES)}, got {self.scheme!r}")
        bounds = {"slots": (1, LARGEST_COUNT), "width": (1, LARGEST_COUNT)}
        bounds["block"] = (0, LARGEST_COUNT if self.kind == SCALED else 0)
        bounds["groups"] = (1, LARGEST_COUNT) if self.kind == CODES else (0, 0)
        bounds["codebook"] = (2, LARGEST_CODEBOOK) if self.kind == CODES else (0, 0)
        for name, (least, most) in bounds.items():
            got = getattr(self, name)
            if not least <= got <= most:
                raise ConfigError(f"{name}: expected from {least} to {most}, got {got}")

    @property
    def kind(self) -> int:
        """FLOAT, SCALED or CODES."""
        return SCHEMES[self.scheme][0]

    @property
    def bits(self) -> int:
        """Bits of a number."""
        return bits_of(self.codebook) if self.kind == CODES else SCHEMES[self.scheme][1]

    @property
    def numbers(self) -> int:
        """How many numbers there are."""
        return self.slots * (self.groups if self.kind == CODES else self.width)

    @property
    def header_bytes(self) -> int:
        """Bytes before the numbers."""
        return FIXED.size + EXTRA[self.kind].size

    @property
    def payload_bytes(self) -> int:
        """Bytes of the numbers."""
        return packed_size(self.numbers, self.bits)

    @property
    def scale_bytes(self) -> int:
        """Bytes of the scales."""
        if self.kind != SCALED:
            return 0
        return 2 * scale_count(self.slots, self.width, self.block)

    @property
    def file_bytes(self) -> int:
        """All bytes, the checksum too."""
        return self.header_bytes + self.payload_bytes + self.scale_bytes + CHECKSUM

    def to_bytes(self) -> bytes:
        """Lay it out as the module says."""
        flags = self.kind << 4 | (self.bits - 1)
        fixed = FIXED.pack(
            MAGIC, VERSION, flags, self.slots, self.width, self.reader, self.compressor
        )
        extra = {FLOAT: (), SCALED: (self.block,), CODES: (self.groups, self.codebook - 1)}
        return fixed + EXTRA[self.kind].pack(*extra[self.kind])


def parse_header(data: bytes, where: str) -> Header:
    """Read a header and check the file's length against it.

    Args:
        data: the whole file.
        where: what to call it in messages.

    Raises:
        LatentFileError: no latent file, another version, truncated, too long, or impossible.
    """
    if not data.startswith(MAGIC[: len(data)]) or not data:
        got = data[: len(MAGIC)].hex() or "nothing"
        raise LatentFileError(mismatch(where, "first bytes", MAGIC.hex(), got))
    if len(data) > 2 and data[2] != VERSION:
        raise LatentFileError(mismatch(where, "version", VERSION, data[2]))
    if len(data) < LEAST:
        raise LatentFileError(mismatch(where, "bytes", f"at least {LEAST}", len(data)))
    _, _, flags, slots, width, reader, compressor = FIXED.unpack_from(data)
    kind, bits = flags >> 4, (flags & 15) + 1
    names = [name for name, (its, has) in SCHEMES.items() if its == kind and has in (bits, 0)]
    if not names:
        raise LatentFileError(
            mismatch(where, "flags", f"those of {', '.join(SCHEMES)}", f"{flags:#04x}")
        )
    if len(data) < FIXED.size + EXTRA[kind].size + CHECKSUM:
        least = FIXED.size + EXTRA[kind].size + CHECKSUM
        raise LatentFileError(mismatch(where, "bytes", f"at least {least}", len(data)))
    extra = EXTRA[kind].unpack_from(data, FIXED.size)
    block = extra[0] if kind == SCALED else 0
    groups, codebook = (extra[0], extra[1] + 1) if kind == CODES else (0, 0)
    try:
        header = Header(names[0], slots, width, reader, compressor, block, groups, codebook)
    except ConfigError as error:
        raise LatentFileError(f"{where}: {error}") from error
    if header.bits != bits:
        raise LatentFileError(mismatch(where, "bits", header.bits, bits))
    if len(data) != header.file_bytes:
        state = "truncated" if len(data) < header.file_bytes else "trailing bytes"
        raise LatentFileError(mismatch(where, "bytes", header.file_bytes, f"{len(data)} ({state})"))
    return header
