"""Every configuration that the rules of dispatch.py give, over the shapes that we answer for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from llgbm.lora_kernels.dispatch import (
    Device,
    Tiles,
    expand_tiles,
    fused_tiles,
    outer_tiles,
    shrink_tiles,
)


@dataclass(frozen=True)
class Target:
    """A GPU to compile for.

    Attributes:
        name: short.
        backend: of Triton, `cuda` or `hip`.
        arch: as Triton's GPUTarget takes it.
        warp: threads.
        device: what the rules see.
        shared_limit: bytes that one program can have.
    """

    name: str
    backend: str
    arch: int | str
    warp: int
    device: Device
    shared_limit: int


TARGETS = {
    target.name: target
    for target in (
        Target("sm_80", "cuda", 80, 32, Device(108, 166912), 166912),
        Target("sm_90", "cuda", 90, 32, Device(132, 232448), 232448),
        Target("sm_100", "cuda", 100, 32, Device(148, 232448), 232448),
        Target("gfx942", "hip", "gfx942", 64, Device(304, 65536), 65536),
    )
}
# Hidden and intermediate sizes of SmolLM2-135M and Qwen2.5-0.5B and 1.5B.
WIDTHS = (576, 1536, 896, 4864, 8960)
ADAPTERS = (1, 4, 8, 32)
ROWS = (1, 40, 200, 640, 2560)
RANKS = (4, 16, 32, 64, 128)
ITEMS = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Configuration:
    """One kernel to compile.

    Attributes:
        kernel: `shrink`, `expand`, `outer` or `fused`.
        dtype: of activations; factors are float32.
        tiles: of the launch, with one split.
        flags: constexpr arguments other than tiles, as sorted pairs.
    """

    kernel: str
    dtype: str
    tiles: Tiles
    flags: tuple[tuple[str, Any], ...]


def configurations(target: Target, dtypes: tuple[str, ...] = tuple(ITEMS)) -> list[Configuration]:
    """All that dispatch gives on `target`, each once: plain, and with everything switched on."""
    found: dict[Configuration, None] = {}
    for dtype in dtypes:
        for kernel, tiles, plain, full in _dispatched(target.device, ITEMS[dtype]):
            bare = Tiles(
                tiles.block_m,
                tiles.block_k,
                tiles.block_r,
                tiles.block_n,
                tiles.num_warps,
                tiles.num_stages,
            )
            for flags in (plain, full):
                found[Configuration(kernel, dtype, bare, tuple(sorted(flags.items())))] = None
    return list(found)


def _dispatched(
    device: Device, item: int
) -> Iterator[tuple[str, Tiles, dict[str, Any], dict[str, Any]]]:
    """Kernel, tiles, flags of a plain batched call and of a ragged, scaled, biased one."""
    off = {"SCALED": False, "RAGGED": False}
    on = {"SCALED": True, "RAGGED": True}
    for n, rows, r in product(ADAPTERS, ROWS, RANKS):
        for groups in (1, 2, 3):
            for k in WIDTHS:
                tiles = shrink_tiles(device, item, 4, n, rows, k, r, groups)
                more = {"GROUPS": groups}
                yield (
                    "shrink",
                    tiles,
                    {**off, **more, "MIXED": False},
                    {**on, **more, "MIXED": True},
                )
                yield "outer", outer_tiles(device, item, n, rows, k, groups * r), off, on
            tiles = expand_tiles(item, rows, r)
            yield (
                "expand",
                tiles,
                {**off, **more, "MIXED": False, "BIASED": False},
                {**on, **more, "MIXED": True, "BIASED": True},
            )
        yield (
            "fused",
            fused_tiles(device, item, rows, r),
            {**off, "MIXED": False, "BIASED": False, "ACCUMULATE": False, "TILES_TOGETHER": 8},
            {**on, "MIXED": True, "BIASED": True, "ACCUMULATE": True, "TILES_TOGETHER": 8},
        )
