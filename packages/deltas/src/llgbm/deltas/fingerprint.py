"""Fingerprints: sha256 of base models, adapters and settings, the keys of every cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from llgbm.deltas.weights import LoRAWeights

# Bytes hashed at a time: bounds the copy that a large tensor needs.
CHUNK = 1 << 24


def _update(digest: hashlib._Hash, name: str, tensor: Tensor) -> None:
    digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    flat = tensor.detach().contiguous().view(-1)
    # Bytes: numpy knows no bfloat16.
    raw = flat.view(torch.uint8) if flat.numel() else flat.to(torch.uint8)
    for start in range(0, raw.numel(), CHUNK):
        digest.update(raw[start : start + CHUNK].cpu().numpy().tobytes())


def base_fingerprint(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and bytes of all parameters, in the order of names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        _update(digest, name, parameter)
    return digest.hexdigest()


def adapter_fingerprint(weights: LoRAWeights, index: int = 0) -> str:
    """sha256 of one adapter: r, lora_alpha and its factors as float32."""
    digest = hashlib.sha256(f"r={weights.spec.r}|lora_alpha={weights.spec.lora_alpha:g}|".encode())
    for path in sorted(weights.spec.paths):
        _update(digest, f"{path}.lora_A", weights.lora_A[path][index].float())
        _update(digest, f"{path}.lora_B", weights.lora_B[path][index].float())
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_folder_fingerprint(folder: Path, weights: Sequence[Path]) -> str:
    """sha256 of a full model on disk, without loading it: its config and its weight files.

    Args:
        folder: with config.json.
        weights: files of tensors, in it.
    """
    files = [folder / "config.json", *sorted(weights)]
    return text_fingerprint({file.name: file_fingerprint(file) for file in files})


def text_fingerprint(content: object) -> str:
    """sha256 of canonical JSON: sorted keys, no spaces."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
