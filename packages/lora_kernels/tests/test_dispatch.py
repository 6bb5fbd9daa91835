"""The written rules, their override, and the split sums that they ask for."""

import pytest
import torch

from llgbm.lora_kernels import Tiles, lora_linear, use_tiles
from llgbm.lora_kernels.backends import has_triton
from llgbm.lora_kernels.dispatch import (
    COMMON_SHARED_BYTES,
    Device,
    describe_device,
    expand_tiles,
    fused_tiles,
    outer_tiles,
    overridden,
    shrink_tiles,
)
from llgbm.lora_kernels.naive import naive_lora_linear

triton_only = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
H200, SMALL = Device(132, 232448), Device(20, 65536)


@pytest.mark.parametrize("device", [H200, SMALL, Device(1, 65536), Device(304, 65536)])
@pytest.mark.parametrize("r", [1, 16, 33, 64, 128])
@pytest.mark.parametrize("item", [2, 4])
def test_every_rule_gives_tiles_that_fit(device, r, item) -> None:
    for n, longest, k in ((1, 1, 1), (1, 200, 896), (8, 640, 896), (32, 2560, 8960), (3, 0, 7)):
        for groups in (1, 2, 3):
            tiles = shrink_tiles(device, item, 4, n, longest, k, r, groups)
            step = tiles.block_k * (tiles.block_m * item + groups * tiles.block_r * 4)
            assert tiles.num_stages * step <= COMMON_SHARED_BYTES
            assert tiles.splits >= 1
        outer = outer_tiles(device, item, n, longest, k, 3 * r)
        assert 1 <= outer.splits <= 16
        fused = fused_tiles(device, item, longest, r)
        used = fused.num_stages * fused.block_k * (fused.block_m + fused.block_n) * item
        assert used <= device.shared_bytes
        for found in (tiles, outer, fused, expand_tiles(item, longest, r)):
            with use_tiles("fused" if found.block_n else "shrink", found):
                pass


def test_few_rows_are_split_and_many_are_not() -> None:
    assert shrink_tiles(H200, 2, 4, 1, 200, 4864, 16, 1).splits > 1
    assert shrink_tiles(H200, 2, 4, 32, 2560, 4864, 16, 1).splits == 1
    assert outer_tiles(H200, 2, 1, 2560, 896, 16).splits > 1
    assert outer_tiles(H200, 2, 32, 2560, 4864, 16).splits == 1


def test_the_override_ends_with_its_block() -> None:
    tiles = Tiles(32, 32, 16)
    with use_tiles("shrink", tiles):
        with use_tiles("outer", tiles):
            assert overridden("shrink") == overridden("outer") == tiles
        assert overridden("outer") is None
    assert overridden("shrink") is None


@pytest.mark.parametrize(
    ("kernel", "tiles", "words"),
    [
        ("gemm", Tiles(16, 16, 16), "expected one of"),
        ("shrink", Tiles(24, 16, 16), "powers of two"),
        ("shrink", Tiles(16, 16, 8), "powers of two from 16"),
        ("fused", Tiles(16, 16, 16), "block_n: expected powers of two"),
        ("outer", Tiles(16.0, 16, 16), "block_m: expected powers of two"),
        ("outer", Tiles(16, 16, 16, splits=0), "splits: expected a whole number of at least 1"),
        ("outer", Tiles(16, 16, 16, splits=1.5), "splits: expected a whole number"),
        ("outer", Tiles(16, 16, 16, num_stages=0), "num_stages: expected a whole number"),
        ("outer", Tiles(16, 16, 16, num_warps=3), "num_warps: expected a power of two"),
    ],
)
def test_overrides_that_no_kernel_can_run_are_refused(kernel, tiles, words) -> None:
    with pytest.raises(ValueError, match=words), use_tiles(kernel, tiles):
        pass


@triton_only
@pytest.mark.parametrize("splits", [2, 3, 7])
@pytest.mark.parametrize("sizes", [(2, 50, 130, 70, 5), (1, 1, 33, 65, 16), (3, 33, 16, 16, 3)])
def test_split_sums_equal_the_definition_and_give_the_same_bits(
    lora, splits, sizes, poisoned
) -> None:
    n, m, in_features, out_features, r = sizes
    tensors = lora.inputs((n, m), in_features, out_features, r)
    tiles = Tiles(16, 16, 16, splits=splits)
    with use_tiles("shrink", tiles), use_tiles("outer", tiles):
        first, second = (lora.run(lora_linear, tensors, backend="triton") for _ in range(2))
    lora.assert_close(first, tensors, naive_lora_linear, 4e-6)
    assert all(torch.equal(first[name], second[name]) for name in first)


@triton_only
def test_shrink_tiles_with_fewer_ranks_than_the_factors_are_refused(lora) -> None:
    tensors = lora.inputs((2, 5), 12, 9, 20)
    with (
        use_tiles("shrink", Tiles(16, 16, 16)),
        pytest.raises(ValueError, match="shrink: block_r: expected at least the rank, 20"),
    ):
        lora_linear(**tensors, backend="triton")


@triton_only
@pytest.mark.parametrize(("kernel", "backend"), [("expand", "triton"), ("fused", "triton_fused")])
def test_other_kernels_walk_through_the_ranks(lora, kernel, backend) -> None:
    tensors = lora.inputs((2, 5), 12, 9, 37)
    with use_tiles(kernel, Tiles(16, 16, 16, 16)):
        got = lora.run(lora_linear, tensors, backend=backend)
    lora.assert_close(got, tensors, naive_lora_linear, 4e-6)


@triton_only
def test_an_output_whose_rows_overlap_is_refused(lora) -> None:
    from llgbm.lora_kernels.rows import Rows
    from llgbm.lora_kernels.triton_backend import expand

    u, w = torch.ones(6, 4, device=lora.device), torch.ones(2, 4, 9, device=lora.device)
    for y in (torch.zeros(1, 9).expand(6, 9), torch.zeros(20).as_strided((6, 9), (2, 1))):
        with pytest.raises(ValueError, match="y: expected rows apart in memory"):
            expand(y.to(lora.device) if y.stride(0) else y, u, [w], None, None, Rows(2, 3))


@triton_only
def test_factors_that_reach_beyond_int32_are_copied() -> None:
    from llgbm.lora_kernels.triton_backend import addressable

    far = torch.empty(1).as_strided((2, 3, 4), (0, 0, 0))
    assert addressable(far) is far
    # Sizes alone are asked, so a tensor without memory serves.
    far = torch.empty_strided((2, 3, 4), (1, 2**30, 2), device="meta")
    assert addressable(far).is_contiguous()
    wide = torch.empty_strided((2, 4), (2**24, 1), device="meta")
    assert addressable(wide).stride() == (4, 1)


def test_an_unknown_device_gives_its_numbers_or_common_ones(monkeypatch) -> None:
    assert describe_device(torch.device("cpu")).multiprocessors == 1
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: object())
    found = describe_device.__wrapped__(torch.device("cuda"))
    assert found == Device(64, COMMON_SHARED_BYTES)
