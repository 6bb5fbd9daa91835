"""Singular value decompositions of updates: of B A without forming it, and of a full ΔW."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def product_svd(
    lora_A: Tensor, lora_B: Tensor, eps: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose n products B A: QR of both factors, SVD of the r x r core.

    Args:
        lora_A: [n, r, in] float32 or float64.
        lora_B: [n, out, r].
        eps: relative rounding of the factors' entries; their type's where None.

    Returns:
        u [n, out, r], s [n, r] descending and vh [n, r, in], with B A = u diag(s) vh. Components
        that are rounding, as of an update of less than rank r or of a rank above a dimension, are
        zero in all three.
    """
    q_out, r_out = torch.linalg.qr(lora_B)
    q_in, r_in = torch.linalg.qr(lora_A.mT)
    u, s, vh = torch.linalg.svd(r_out @ r_in.mT, full_matrices=False)
    u, vh = q_out @ u, vh @ q_in.mT
    # What a factor has beyond the product is lost in its rounding, not in the product's.
    size = lora_A.flatten(1).norm(dim=1) * lora_B.flatten(1).norm(dim=1)
    rounding = 4 * max(lora_A.shape[1:] + lora_B.shape[1:]) ** 0.5
    rounding *= torch.finfo(s.dtype).eps if eps is None else eps
    kept = s > rounding * size[:, None]
    u, s, vh = u * kept[:, None], s * kept, vh * kept[..., None]
    missing = lora_A.shape[1] - s.shape[1]
    return F.pad(u, (0, missing)), F.pad(s, (0, missing)), F.pad(vh, (0, 0, 0, missing))


def leading_svd(update: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the r largest singular values of full updates, with their vectors.

    Through the eigenvectors of the smaller Gram matrix, in float64, where squaring the singular
    values costs no digit that float32 has: several times faster than the decomposition itself.

    Args:
        update: [..., out, in] float32 or float64.
        r: values wanted; fewer where a side is shorter.

    Returns:
        u [..., out, k], s [..., k] descending and vh [..., k, in], of the update's type.
    """
    if update.shape[-2] > update.shape[-1]:
        u, s, vh = leading_svd(update.mT, r)
        return vh.mT, s, u.mT
    exact = update.double()
    squares, vectors = torch.linalg.eigh(exact @ exact.mT)
    k = min(r, squares.shape[-1])
    s = squares[..., -k:].flip(-1).clamp_min(0).sqrt()
    u = vectors[..., -k:].flip(-1)
    # Of a direction that is rounding nothing is kept, rather than a rounding of length one.
    kept = s > 1e-7 * s[..., :1]
    vh = (u.mT @ exact) / torch.where(kept, s, 1.0)[..., None] * kept[..., None]
    return u.to(update), (s * kept).to(update), vh.to(update)


def balanced_factors(
    u: Tensor, s: Tensor, vh: Tensor, r: int, scaling: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return A = sqrt(s) vh and B = u sqrt(s), so that scaling · B A = u diag(s) vh.

    Args:
        u: [..., out, k].
        s: [..., k], not negative.
        vh: [..., k, in].
        r: rank of the factors: components beyond it are dropped, missing ones are zero.
        scaling: lora_alpha / r.

    Returns:
        A [..., r, in] and B [..., out, r].
    """
    root = (s[..., :r] / scaling).clamp_min(0).sqrt()
    lora_A, lora_B = root[..., None] * vh[..., :r, :], u[..., :r] * root[..., None, :]
    missing = r - root.shape[-1]
    return F.pad(lora_A, (0, 0, 0, missing)), F.pad(lora_B, (0, missing))
