"""lora_linear_ragged: adapters with unequal numbers of rows, and unequal ranks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from llgbm.lora_kernels.backends import Backend
from llgbm.lora_kernels.grouped import lora_linear_grouped
from llgbm.lora_kernels.segments import Segments
from llgbm.lora_kernels.shapes import require_tensor


def lora_linear_ragged(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: Tensor,
    offsets: Sequence[int] | Tensor | Segments,
    bias: Tensor | None = None,
    *,
    ranks: Sequence[int] | Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """`lora_linear` where rows offsets[i] to offsets[i + 1] belong to adapter i.

    Args:
        x: [M, in].
        weight: [out, in], without gradient.
        lora_A: [n, r, in].
        lora_B: [n, out, r].
        scaling: [n].
        offsets: n + 1 whole numbers from 0 to M that never fall; equal neighbours are an empty
            segment. `Segments` where many layers share them.
        bias: [out].
        ranks: of each adapter, 1 to r: later ranks are not read and get a gradient of zero.
        backend: as in `lora_linear`.

    Returns:
        [M, out], x's dtype.

    Raises:
        ValueError: as `lora_linear`, or offsets that do not cover x in order.
    """
    require_tensor("x", x)
    if isinstance(offsets, Segments):
        if ranks is not None:
            raise ValueError("ranks: expected them inside the Segments given, got both")
        segments = offsets
    else:
        segments = Segments.of(offsets, ranks, x.device)
    return lora_linear_grouped(
        x, [weight], [lora_A], [lora_B], scaling, [bias], segments=segments, backend=backend
    )[0]
