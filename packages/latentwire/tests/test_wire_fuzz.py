import zlib

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.latentwire.errors import LatentFileError
from llgbm.latentwire.wire import Packed, pack, unpack
from llgbm.latentwire.wire.bits import pack_bits
from llgbm.latentwire.wire.header import CHECKSUM, FIXED, MAGIC, VERSION, Header

READER, COMPRESSOR = "ab" * 32, "cd" * 32
PRINTS = {"reader": READER, "compressor": COMPRESSOR}
SCHEMES = st.sampled_from(("fp16", "int8", "int6", "int4", "codes"))


def valid(scheme: str, slots: int = 3, width: int = 5) -> bytes:
    """A file of small latents, or of codes below 100."""
    if scheme != "codes":
        values = torch.randn(slots, width, generator=torch.Generator().manual_seed(0))
        return pack(values, scheme, **PRINTS)
    prints = bytes.fromhex(READER)[:16], bytes.fromhex(COMPRESSOR)[:16]
    header = Header("codes", slots, width, *prints, groups=2, codebook=100)
    return sealed(header.to_bytes() + pack_bits(torch.arange(2 * slots).numpy(), 7))


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(CHECKSUM, "little")


def read(data: bytes) -> Packed | None:
    """A file, or None where it is refused as it should be."""
    try:
        packed = unpack(data, **PRINTS)
    except LatentFileError:
        return None
    held = packed.values if packed.codes is None else packed.codes
    assert held is not None
    assert held.isfinite().all()
    assert len(held) == packed.header.slots > 0
    return packed


@given(SCHEMES)
def test_valid_files_are_read(scheme: str) -> None:
    assert read(valid(scheme)) is not None


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert read(data) is None


@given(st.binary(max_size=200))
def test_random_bytes_after_a_true_beginning_are_refused(data: bytes) -> None:
    assert read(MAGIC + bytes([VERSION]) + data) is None


@given(SCHEMES, st.data())
def test_files_with_changed_bytes_are_refused(scheme: str, data: st.DataObject) -> None:
    good = valid(scheme)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    assert (read(bytes(bad)) is None) == (bytes(bad) != good)


@given(SCHEMES, st.data())
def test_files_with_pieces_cut_out_or_put_in_are_refused(scheme: str, data: st.DataObject) -> None:
    good = valid(scheme)
    begin = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(begin, len(good)))
    bad = good[:begin] + data.draw(st.binary(max_size=20)) + good[end:]
    assert (read(bad) is None) == (bad != good)


@settings(max_examples=400)
@given(SCHEMES, st.data())
def test_damage_under_a_right_checksum_is_refused_or_read_as_sound_numbers(
    scheme: str, data: st.DataObject
) -> None:
    body = bytearray(valid(scheme)[:-CHECKSUM])
    for _ in range(data.draw(st.integers(1, 4))):
        # Most often in the header's sizes and flags or in what follows it.
        place = data.draw(st.integers(3, 7) | st.integers(FIXED.size, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    read(sealed(bytes(body)))


@given(
    st.integers(0, 255),
    st.integers(0, 70),
    st.integers(0, 70),
    st.binary(max_size=4),
    st.binary(max_size=40),
)
def test_any_header_under_a_right_checksum_is_refused_or_read_as_sound_numbers(
    flags: int, slots: int, width: int, extra: bytes, payload: bytes
) -> None:
    prints = bytes.fromhex(READER)[:16], bytes.fromhex(COMPRESSOR)[:16]
    fixed = FIXED.pack(MAGIC, VERSION, flags, slots, width, *prints)
    read(sealed(fixed + extra + payload))


def test_a_header_that_asks_for_gigabytes_takes_none() -> None:
    prints = bytes.fromhex(READER)[:16], bytes.fromhex(COMPRESSOR)[:16]
    fixed = FIXED.pack(MAGIC, VERSION, 15, 65535, 65535, *prints)
    assert read(sealed(fixed)) is None


def test_codes_out_of_range_under_a_right_checksum_are_refused() -> None:
    body = bytearray(valid("codes")[:-CHECKSUM])
    body[-1] = 0
    assert read(sealed(bytes(body))) is not None
    # 3 slots of 2 codes of 7 bits: the lowest 7 bits of the payload are the first code.
    place = Header("codes", 1, 1, b"", b"", groups=1, codebook=2).header_bytes
    body[place] = 100
    assert read(sealed(bytes(body))) is None
