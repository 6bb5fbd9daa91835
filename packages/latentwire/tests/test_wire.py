from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llgbm.latentwire.bottlenecks.finite import FiniteConfig
from llgbm.latentwire.errors import ConfigError, LatentFileError
from llgbm.latentwire.wire import pack, read_latents, unpack, write_latents
from llgbm.latentwire.wire.bits import bits_of, pack_bits, packed_size, unpack_bits
from llgbm.latentwire.wire.quantise import BLOCK, dequantise, largest_code, quantise

READER, COMPRESSOR, OTHER = "ab" * 32, "cd" * 32, "ef" * 32
PRINTS = {"reader": READER, "compressor": COMPRESSOR}
VALUES = ("fp16", "int8", "int6", "int4")


def rows(kind: str, number: int = 200, slots: int = 32, width: int = 256) -> torch.Tensor:
    """Latents [number, slots, width]: normal, or uniform with slots of unlike size."""
    draw = torch.Generator().manual_seed(0)
    if kind == "normal":
        return torch.randn(number, slots, width, generator=draw)
    sizes = torch.rand(number, slots, 1, generator=draw) * 10
    return (torch.rand(number, slots, width, generator=draw) * 2 - 1) * sizes


def row(slots: int = 5, width: int = 13, seed: int = 0) -> torch.Tensor:
    return torch.randn(slots, width, generator=torch.Generator().manual_seed(seed))


@given(st.data(), st.integers(1, 17))
def test_packed_numbers_come_back_in_the_fewest_bytes(data: st.DataObject, bits: int) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    packed = pack_bits(np.array(numbers), bits)
    assert len(packed) == packed_size(len(numbers), bits) == -(-len(numbers) * bits // 8)
    assert unpack_bits(packed, len(numbers), bits).tolist() == numbers


def test_packed_numbers_that_do_not_fit_and_bits_left_over_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 15"):
        pack_bits(np.array([16]), 4)
    with pytest.raises(ValueError, match="left over"):
        unpack_bits(b"\xff", 1, 6)


def test_bits_of_a_codebook_are_the_logarithm_rounded_up() -> None:
    assert [bits_of(size) for size in (2, 3, 4, 5, 1000, 1024, 1025)] == [1, 2, 2, 3, 10, 10, 11]


@pytest.mark.parametrize(
    ("scheme", "payload", "scales"),
    [("fp16", 16384, 0), ("int8", 8192, 64), ("int6", 6144, 64), ("int4", 4096, 64)],
)
def test_32_slots_of_width_256_take_the_bytes_of_the_table(
    scheme: str, payload: int, scales: int
) -> None:
    data = pack(row(32, 256), scheme, **PRINTS)
    header = unpack(data, **PRINTS).header
    assert (header.payload_bytes, header.scale_bytes) == (payload, scales)
    assert len(data) == payload + scales + (40 if scheme == "fp16" else 42) + 4


def test_a_scale_a_slot_takes_as_many_bytes_at_32_slots_of_width_256() -> None:
    data = pack(row(32, 256), "int4", **PRINTS, block=0)
    assert unpack(data, **PRINTS).header.scale_bytes == 64


@pytest.mark.parametrize("block", [0, 3, BLOCK, 100])
@pytest.mark.parametrize("bits", [8, 6, 4])
def test_unpacked_latents_are_exactly_the_rounded_ones(bits: int, block: int) -> None:
    values = row()
    rounded = dequantise(*quantise(values, bits, block), block)
    data = pack(values, f"int{bits}", **PRINTS, block=block)
    assert torch.equal(unpack(data, **PRINTS, width=13).row(), rounded)


def test_unpacked_fp16_latents_are_the_nearest_halves() -> None:
    values = torch.tensor([[0.1, -0.0, 65504.0, 1e-8, -3.0]])
    found = unpack(pack(values, "fp16", **PRINTS), **PRINTS).row()
    assert torch.equal(found.half().view(torch.int16), values.half().view(torch.int16))


@given(
    st.sampled_from(VALUES),
    st.integers(0, 9),
    st.integers(1, 5),
    st.integers(1, 20),
    st.integers(0, 2**31),
    st.floats(-12, 4),
)
def test_packing_what_was_unpacked_changes_no_bit(
    scheme: str, block: int, slots: int, width: int, seed: int, power: float
) -> None:
    # Down to sizes at which fp16 scales lose bits and then vanish.
    values = row(slots, width, seed) * 10**power
    data = pack(values, scheme, **PRINTS, block=block)
    assert pack(unpack(data, **PRINTS).row(), scheme, **PRINTS, block=block) == data


@pytest.mark.parametrize("scheme", VALUES)
def test_slots_of_zeros_stay_zeros(scheme: str) -> None:
    values = row()
    values[1] = 0
    assert (unpack(pack(values, scheme, **PRINTS, block=0), **PRINTS).row()[1] == 0).all()
    zeros = torch.zeros(2, 9)
    assert torch.equal(unpack(pack(zeros, scheme, **PRINTS), **PRINTS).row(), zeros)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("bits", [8, 6, 4])
@pytest.mark.parametrize("block", [0, BLOCK])
def test_rounding_errs_no_more_than_even_noise_within_a_step(
    kind: str, bits: int, block: int
) -> None:
    values = rows(kind)
    codes, scales = quantise(values, bits, block)
    error = (dequantise(codes, scales, block) - values).square()
    # The step that spans a group is its largest number / the largest code. Rounding to it errs as
    # even noise of that width does, step / sqrt(12) in the mean; cutting the step to fp16 moves
    # that by at most 2**-10, and 200 rows of 8,192 numbers hold the mean within 1%. A smaller step
    # is taken only where it errs less.
    width = block or 256
    grouped = values.unflatten(-1, (-1, width)).transpose(1, 2)
    largest = grouped.abs().amax(-1 if not block else (-2, -1), keepdim=True)
    steps = (largest / largest_code(bits)).expand_as(grouped)
    assert error.mean() <= 1.01 * steps.square().mean() / 12
    if bits == 8 and kind == "normal":
        # At 8 bits next to nothing is gained by clipping.
        assert error.mean() >= 0.95 * steps.square().mean() / 12


def test_no_number_errs_by_more_than_half_the_step_where_nothing_is_clipped() -> None:
    values = rows("uniform", number=20)
    codes, scales = quantise(values, 8, 0)
    span = values.abs().amax(-1, keepdim=True) / 127
    # Evenly spread slots are never clipped by 5% at 8 bits: six steps off at the ends cost more.
    assert (scales[..., None].float() / span > 0.999).all()
    # The largest number is off by what fp16 cut from 127 steps, at most 127 / 1024 of one.
    assert ((dequantise(codes, scales, 0) - values).abs() <= span * (0.5 + 1e-4)).all()


def test_at_four_bits_clipping_the_ends_takes_a_fifth_off_the_squared_error() -> None:
    values = rows("normal")
    error = (dequantise(*quantise(values, 4, 0), 0) - values).square().mean()
    step = values.abs().amax(-1, keepdim=True) / 7
    plain = ((values / step).round() * step - values).square().mean()
    # The best even steps for a normal variable clip at 2.4 sigma (Max 1960); 256 numbers reach 3.
    assert error < 0.8 * plain


def test_halves_err_by_a_2048th_at_most() -> None:
    values = rows("normal", number=200)
    for each in values[:20]:
        found = unpack(pack(each, "fp16", **PRINTS), **PRINTS).row()
        assert (
            (found - each).abs() <= torch.maximum(each.abs() * 2**-11, torch.tensor(2**-25))
        ).all()


def test_scales_of_channels_keep_a_loud_channel_away_from_quiet_ones() -> None:
    values = row(32, 256)
    values[:, 7] *= 100
    errors = [
        float((dequantise(*quantise(values, 4, block), block) - values)[:, 8:].square().mean())
        for block in (0, BLOCK)
    ]
    assert errors[1] < errors[0] / 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_latents_that_are_not_finite_are_refused(bad: float) -> None:
    values = row()
    values[0, 0] = bad
    with pytest.raises(LatentFileError, match="finite numbers, got NaN or Inf"):
        pack(values, "int8", **PRINTS)


@pytest.mark.parametrize(
    "bad", [torch.zeros(0, 4), torch.zeros(4, 0), torch.zeros(4), torch.zeros(1, 2, dtype=int)]
)
def test_latents_without_slots_or_of_another_shape_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(LatentFileError, match="real numbers"):
        pack(bad, "int8", **PRINTS)


@pytest.mark.parametrize(("scheme", "top"), [("fp16", 65504.0), ("int4", 65504.0 * 7)])
def test_latents_larger_than_fp16_can_scale_are_refused(scheme: str, top: float) -> None:
    assert float(unpack(pack(torch.tensor([[top]]), scheme, **PRINTS), **PRINTS).row()) == top
    with pytest.raises(LatentFileError, match="at most"):
        pack(torch.tensor([[top * 1.01]]), scheme, **PRINTS)


def test_an_unknown_scheme_a_bad_fingerprint_and_codes_without_codebooks_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of fp16, int8, int6, int4, codes, got 'int5'"):
        pack(row(), "int5", **PRINTS)
    with pytest.raises(ConfigError, match="reader: fingerprint: expected sha256"):
        pack(row(), "int8", reader="tiny", compressor=COMPRESSOR)
    with pytest.raises(ConfigError, match="bottleneck with codebooks, got none"):
        pack(row(), "codes", **PRINTS)
    with pytest.raises(ConfigError, match="width: expected from 1 to 65535"):
        pack(torch.zeros(1, 65536), "int8", **PRINTS)


@pytest.mark.parametrize("scheme", VALUES)
def test_every_flipped_bit_is_found(scheme: str) -> None:
    data = pack(row(2, 5), scheme, **PRINTS)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LatentFileError):
            unpack(bytes(damaged), reader=None, compressor=None)


@pytest.mark.parametrize("scheme", VALUES)
def test_every_truncation_is_found(scheme: str) -> None:
    data = pack(row(2, 5), scheme, **PRINTS)
    for end in range(len(data)):
        with pytest.raises(LatentFileError):
            unpack(data[:end], **PRINTS)


def test_messages_say_what_was_expected_and_what_was_found() -> None:
    data = pack(row(), "int8", **PRINTS)
    other = {"reader": OTHER, "compressor": OTHER}
    cases = [
        (b"PK" + data[2:], PRINTS, "x: first bytes: expected 4c57, got 504b"),
        (data[:2] + b"\7" + data[3:], PRINTS, "x: version: expected 1, got 7"),
        (data[:-1], PRINTS, f"x: bytes: expected {len(data)}, got {len(data) - 1} .truncated"),
        (data + b"\0", PRINTS, f"x: bytes: expected {len(data)}, got {len(data) + 1} .trailing"),
        (data[:-1] + bytes([data[-1] ^ 1]), PRINTS, "x: checksum: expected"),
        (data, PRINTS | {"reader": OTHER}, f"x: reader: expected {OTHER[:32]}, got {READER[:32]}"),
        (data, PRINTS | {"compressor": OTHER}, "x: compressor: expected efef.*, got cdcd"),
        (data, other, "x: reader"),
    ]
    for damaged, prints, message in cases:
        with pytest.raises(LatentFileError, match=message):
            unpack(damaged, **prints, where="x")
    with pytest.raises(LatentFileError, match="x: width: expected 14, got 13"):
        unpack(data, **PRINTS, width=14, where="x")
    unpack(data, reader=None, compressor=None)


def test_files_are_written_whole_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.lw"
    size = write_latents(path, row(), "int6", **PRINTS)
    assert path.stat().st_size == size
    assert [each.name for each in path.parent.iterdir()] == ["one.lw"]
    expected = unpack(pack(row(), "int6", **PRINTS), **PRINTS).row()
    assert torch.equal(read_latents(path, **PRINTS, width=13).row(), expected)
    with pytest.raises(LatentFileError, match="NaN or Inf"):
        write_latents(path, row() * float("nan"), "int6", **PRINTS)
    assert torch.equal(read_latents(path, **PRINTS).row(), expected)


def test_missing_folders_and_files_that_are_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LatentFileError, match="none.lw: file: expected a latent file, got No such"):
        read_latents(tmp_path / "none.lw", **PRINTS)
    with pytest.raises(LatentFileError, match="got Is a directory"):
        read_latents(tmp_path, **PRINTS)
    path = tmp_path / "one.lw"
    size = write_latents(path, row(), "int6", **PRINTS)
    read_latents(path, **PRINTS, largest=size)
    with pytest.raises(LatentFileError, match=f"one.lw: bytes: expected at most {size - 1}, got"):
        read_latents(path, **PRINTS, largest=size - 1)


def test_codes_take_exactly_their_bits_and_give_the_bottlenecks_values(tiny_reader) -> None:
    torch.manual_seed(0)
    bottleneck = FiniteConfig(levels=(5, 5, 4), groups=3).build(16, tiny_reader)
    values = row(9, 16)
    data = pack(values, "codes", **PRINTS, bottleneck=bottleneck)
    packed = unpack(data, **PRINTS)
    # 9 slots of 3 codes below 100, 7 bits each.
    assert packed.header.payload_bytes == -(-9 * 3 * 7 // 8)
    assert len(data) == 44 + 24 + 4
    assert packed.codes is not None
    again = pack(packed.row(bottleneck), "codes", **PRINTS, bottleneck=bottleneck)
    assert torch.equal(packed.row(bottleneck), bottleneck.from_codes(packed.codes[None])[0])
    assert len(again) == len(data)


def test_codes_need_the_bottleneck_that_they_are_of(tiny_reader) -> None:
    bottleneck = FiniteConfig(levels=(5, 5, 4), groups=3).build(16, tiny_reader)
    packed = unpack(pack(row(9, 16), "codes", **PRINTS, bottleneck=bottleneck), **PRINTS)
    with pytest.raises(LatentFileError, match=r"expected \(16, 3, 100\), got no bottleneck"):
        packed.row()
    other = FiniteConfig(levels=(5, 5, 5), groups=3).build(16, tiny_reader)
    with pytest.raises(LatentFileError, match=r"got \(16, 3, 125\)"):
        packed.row(other)
