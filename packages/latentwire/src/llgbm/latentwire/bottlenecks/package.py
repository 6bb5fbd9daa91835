"""The package with quantisers: optional, imported where a config asks for it."""

from __future__ import annotations

from typing import Any

from llgbm.deltas.errors import MissingPackageError


def quantizers() -> Any:
    """Import vector_quantize_pytorch.

    Raises:
        MissingPackageError: it is not installed; says the pip line.
    """
    try:
        import vector_quantize_pytorch
    except ImportError as error:
        raise MissingPackageError(
            "bottleneck: codebooks need vector-quantize-pytorch (extra `codes` of "
            "llgbm-latentwire): pip install vector-quantize-pytorch"
        ) from error
    return vector_quantize_pytorch
