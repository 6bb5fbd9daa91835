"""A quantised GGUF file becomes a plain bfloat16 model in the user's cache, once."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from llgbm.deltas.atomic import folder
from llgbm.deltas.errors import ModelError
from llgbm.deltas.fingerprint import file_fingerprint
from llgbm.deltas.quiet import quiet_transformers


def converted_gguf(path: Path) -> Path:
    """Return the folder of the converted model, converting where it is missing or damaged.

    The folder is keyed by the file's sha256; two processes convert once.

    Raises:
        ModelError: the file is no GGUF model that transformers reads.
    """
    target = user_cache() / f"{path.stem}-{file_fingerprint(path)[:16]}-bf16"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not _whole(target):
            _convert(path, target)
    return target


def user_cache() -> Path:
    """Folder of converted models: $LLGBM_CACHE, else the platform's user cache."""
    if "LLGBM_CACHE" in os.environ:
        return Path(os.environ["LLGBM_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "llgbm"


def _whole(target: Path) -> bool:
    """Whether the folder holds a readable model: a truncated file fails to open or to parse."""
    try:
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            json.loads((target / name).read_text(encoding="utf-8"))
        with safe_open(target / "model.safetensors", framework="pt") as opened:
            return len(opened.keys()) > 0
    except (SafetensorError, OSError, ValueError):
        return False


def _convert(path: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": path.name, "dtype": torch.float32}
    try:
        # Newer transformers keep GGUF weights packed unless told otherwise.
        from transformers import GgufConfig

        arguments["quantization_config"] = GgufConfig(dequantize=True)
    except ImportError:
        pass
    with quiet_transformers():
        try:
            loaded = AutoModelForCausalLM.from_pretrained(str(path.parent), **arguments)
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        except (OSError, ValueError, LookupError, struct.error) as error:
            raise ModelError(f"{path}: expected a GGUF model, got: {error}") from error
        # A model that remembers its quantisation refuses to be saved: start from a clean config.
        content = loaded.config.to_dict()
        content.pop("quantization_config", None)
        model = type(loaded)(type(loaded.config).from_dict(content))
        model.load_state_dict(loaded.state_dict())
        model = model.to(torch.bfloat16)
        with folder(target) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
