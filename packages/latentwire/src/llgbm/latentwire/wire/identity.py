"""Which compressor wrote a file: a sha256 of all that makes it what it is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from llgbm.latentwire.compressor import Compressor
    from llgbm.latentwire.two_readers.compressor import SharedCompressor


def compressor_fingerprint(compressor: Compressor | SharedCompressor) -> str:
    """sha256 of a compressor's config and of its parameters and buffers (codebooks are some).

    Frozen pretrained weights are no part of its state; the config names them, and the reader has
    a fingerprint of its own.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256(f"{compressor.config!r}|".encode())
    for name, tensor in sorted(compressor.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # Bytes: numpy knows no bfloat16.
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()
