"""Base models: a packaged one, a local folder, or a hub id; always frozen."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from llgbm.deltas.errors import ModelError, mismatch
from llgbm.deltas.gemma3_chunks import gemma3_gguf
from llgbm.deltas.gguf_conversion import converted_gguf
from llgbm.deltas.packaged import smollm2_gguf
from llgbm.deltas.quiet import quiet_transformers
from llgbm.deltas.tokenizers import register_tokenizer

DEFAULT_MODEL = "smollm2-135m"
GEMMA3 = "gemma3-270m"

# What transformers and safetensors raise for absent, damaged or foreign files.
_UNLOADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError)


def known_models() -> tuple[str, ...]:
    """Names that stand for a packaged model."""
    return (DEFAULT_MODEL, GEMMA3)


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the hardware multiplies in it, else float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # Without native support a CPU emulates bfloat16 several times slower than float32 runs.
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    native = any(getattr(torch.cpu, name, lambda: False)() for name in checks)
    return torch.bfloat16 if native else torch.float32


def load_base_model(
    name: str = DEFAULT_MODEL,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Any, Any]:
    """Load a frozen causal language model and its tokenizer.

    Args:
        name: `smollm2-135m` (packaged, converted once into the user's cache), `gemma3-270m`
            (likewise; its use is bound to the Gemma licence terms), a local folder, or a hub
            id such as `Qwen/Qwen2.5-0.5B`.
        dtype: `default_dtype` of the device where None.
        device: CUDA where there is one, else the CPU, where None.

    Returns:
        (model, tokenizer): the model in evaluation mode, no parameter requires a gradient.

    Raises:
        ModelError: an unknown name, dtype or device or one that is not there, a model that cannot
            be loaded, or whose file lacks weights or holds them in other shapes.
        MissingPackageError: the package of the packaged model is not installed.
    """
    device = _device(device)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ModelError(f"dtype: expected one such as torch.bfloat16, got {dtype!r}")
    source = _source(name)
    tokenizer = load_tokenizer(name, source)
    model = load_frozen_model(name, source, dtype or default_dtype(device), device)
    register_tokenizer(model, tokenizer)
    return model, tokenizer


def load_tokenizer(name: str, source: str) -> Any:
    """Load the tokenizer of folder or hub id `source`, with a token to pad by.

    Raises:
        ModelError: it cannot be loaded, or has no token to pad by; opens with `name`.
    """
    from transformers import AutoTokenizer

    with _told(name), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ModelError(f"{name}: tokenizer: expected a pad, eos or unk token, got none")
    return tokenizer


def load_frozen_model(name: str, source: str, dtype: torch.dtype, device: torch.device) -> Any:
    """Load the model of folder or hub id `source`, frozen, in evaluation mode, by `sdpa`.

    Raises:
        ModelError: it cannot be loaded, lacks weights or holds them in other shapes; opens with
            `name`.
    """
    from transformers import AutoModelForCausalLM

    with _told(name), quiet_transformers():
        # Weights that do not fit are told apart below, by name, instead of in a report.
        model, loading = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    _check_weights(name, loading)
    model = model.to(device).eval().requires_grad_(False)
    model.name_or_path = model.config._name_or_path = name
    return model


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the loaders raise into one line."""
    try:
        yield
    except _UNLOADABLE as error:
        reason = textwrap.shorten(str(error), 240, placeholder=" ...") or type(error).__name__
        raise ModelError(f"{name}: expected a model that can be loaded, got: {reason}") from error


def decoder_body(model: nn.Module) -> Any:
    """Return the decoder without its language-model head."""
    get_decoder: Any = getattr(model, "get_decoder", None)
    return get_decoder() if get_decoder is not None else model


def _device(device: torch.device | str | None) -> torch.device:
    """The device asked for, where it can be used."""
    if device is None:
        return default_device()
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device: expected one such as cpu or cuda, got {device!r}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        got = f"{torch.cuda.device_count()} CUDA devices"
        raise ModelError(f"device: expected {device} to be there, got {got}")
    return chosen


def _check_weights(name: str, loading: Mapping[str, Any]) -> None:
    """Refuse a model of which some weights are drawn at random for want of a fitting file."""
    for key, got, expected in sorted(loading["mismatched_keys"]):
        raise ModelError(mismatch(name, key, f"shape {tuple(expected)}", tuple(got)))
    missing = sorted(loading["missing_keys"])
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ModelError(f"{name}: expected the weight {missing[0]}{more}, got none")


def _source(name: str) -> str:
    """Folder or hub id that transformers can load for `name`."""
    if name == DEFAULT_MODEL:
        return str(converted_gguf(smollm2_gguf()))
    if name == GEMMA3:
        return str(converted_gguf(gemma3_gguf()))
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(f"{path}: expected a model folder with config.json, got none")
        return str(path)
    if path.suffix == ".gguf" and path.is_file():
        return str(converted_gguf(path))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    near = difflib.get_close_matches(name.lower(), known_models(), n=1, cutoff=0.4)
    hint = f" (nearest: {near[0]})" if near else ""
    raise ModelError(
        f"base model: expected one of {list(known_models())}, a local folder or a hub id "
        f"OWNER/NAME, got {name!r}{hint}"
    )
