"""Adapters on disk, in PEFT's format: the only module that knows PEFT's key names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llgbm.deltas.atomic import folder, save_tensors, write_text
from llgbm.deltas.errors import AdapterError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.spec import ALL_LINEAR, LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
FINGERPRINT_KEY = "llgbm_base_fingerprint"
_KEY = re.compile(
    r"^base_model\.model\.(?P<path>.+)\.(?P<factor>lora_A|lora_B)(\.default)?\.weight$"
)
# Settings of PEFT that change what an adapter means, and the only values we can run.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "fan_in_fan_out": (False, None),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "megatron_config": (None,),
    # Other initialisations (pissa, olora, corda, loftq) change the base weights.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva", None),
}


@dataclass(frozen=True)
class AdapterInfo:
    """Which base an adapter says it was made for."""

    base_model_name: str | None
    base_fingerprint: str | None


def load_adapter(path: Path | str) -> LoRAWeights:
    """Read a PEFT LoRA folder.

    Args:
        path: folder with adapter_config.json and adapter_model.safetensors.

    Returns:
        One adapter (n = 1), float32, modules in the order of the base model's layers.

    Raises:
        AdapterError: missing, truncated or foreign files, unsupported features, missing or
            extra keys, two keys of one factor, wrong shapes, NaN or Inf.
    """
    path = Path(path)
    config = _read_config(path)
    file = path / TENSORS
    lora_A, lora_B = _split(file, _read_tensors(file))
    r, lora_alpha = _number(path, config, "r"), _number(path, config, "lora_alpha")
    return _assemble(file, lora_A, lora_B, r, lora_alpha)


def load_adapter_tensors(
    file: Path | str, lora_alpha: float | Callable[[int], float]
) -> LoRAWeights:
    """Read an adapter's tensors where no adapter_config.json says its rank: shapes do.

    Args:
        file: safetensors with PEFT's keys.
        lora_alpha: of the adapter, or what gives it from the rank; tensors do not tell.

    Returns:
        One adapter (n = 1), float32, modules in the order of the base model's layers.

    Raises:
        AdapterError: as `load_adapter`, for the tensors.
    """
    file = Path(file)
    lora_A, lora_B = _split(file, _read_tensors(file))
    name, first = next(iter(lora_A.items()))
    if first.dim() != 2 or not first.numel():
        raise AdapterError(mismatch(file, f"{name}.lora_A", "(r, in)", tuple(first.shape)))
    r = first.shape[0]
    return _assemble(file, lora_A, lora_B, r, lora_alpha(r) if callable(lora_alpha) else lora_alpha)


def _assemble(
    file: Path, lora_A: Mapping[str, Tensor], lora_B: Mapping[str, Tensor], r: float, alpha: float
) -> LoRAWeights:
    """Check shapes and values, and put factors together."""
    modules = []
    for name in sorted(lora_A, key=_natural):
        a, b = lora_A[name], lora_B[name]
        if a.dim() != 2 or a.shape[0] != r:
            raise AdapterError(mismatch(file, f"{name}.lora_A", f"({r}, in)", tuple(a.shape)))
        if b.dim() != 2 or b.shape[1] != r:
            raise AdapterError(mismatch(file, f"{name}.lora_B", f"(out, {r})", tuple(b.shape)))
        modules.append(ModuleShape(name, a.shape[1], b.shape[0]))
    spec = LoRASpec(tuple(modules), int(r), float(alpha))
    weights = LoRAWeights(
        spec,
        {name: lora_A[name].float()[None] for name in spec.paths},
        {name: lora_B[name].float()[None] for name in spec.paths},
    )
    weights.check_finite(file)
    return weights


def read_adapter_info(path: Path | str) -> AdapterInfo:
    """Read which base the adapter in folder `path` was made for.

    Raises:
        AdapterError: as `load_adapter`, for the two files' headers.
    """
    path = Path(path)
    name = _read_config(path).get("base_model_name_or_path")
    if not isinstance(name, str | None):
        raise AdapterError(mismatch(path / CONFIG, "base_model_name_or_path", "a name", repr(name)))
    try:
        with safe_open(path / TENSORS, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path / TENSORS, error) from error
    return AdapterInfo(name or None, metadata.get(FINGERPRINT_KEY))


def check_base(path: Path | str, base_fingerprint: str, base_model_name: str | None = None) -> None:
    """Refuse an adapter that records another base than `base_fingerprint`.

    An adapter from elsewhere records none and passes; its shapes are checked when it is applied.

    Raises:
        AdapterError: another base.
    """
    info = read_adapter_info(path)
    if info.base_fingerprint is not None and info.base_fingerprint != base_fingerprint:
        expected = f"{base_model_name or 'the loaded model'} ({base_fingerprint[:12]})"
        got = f"{info.base_model_name} ({info.base_fingerprint[:12]})"
        raise AdapterError(mismatch(path, "base model", expected, got))


def check_output(path: Path | str, overwrite: bool) -> None:
    """Raise AdapterError unless an adapter may be written to `path`.

    What exists is replaced only on demand, and only where it is an adapter or empty: nobody
    means to lose anything else.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise AdapterError(f"{path}: expected a new folder, got one that exists: add --overwrite")
    _check_replaced(path)


def _check_replaced(path: Path) -> None:
    """Raise AdapterError where what exists at `path` is neither an adapter nor an empty folder."""
    adapter = path.is_dir() and ((path / CONFIG).exists() or not any(path.iterdir()))
    if path.exists() and not adapter:
        raise AdapterError(f"{path}: expected an adapter to overwrite, got something else")


def save_adapter(
    weights: LoRAWeights,
    path: Path | str,
    base_model_name: str | None = None,
    base_fingerprint: str | None = None,
    extra_files: Mapping[str, str] | None = None,
) -> None:
    """Write one adapter as a folder that `PeftModel.from_pretrained` loads.

    Args:
        weights: n = 1.
        path: folder; an adapter or an empty folder there is replaced, whole or not at all.
        base_model_name: for PEFT's `base_model_name_or_path`.
        base_fingerprint: of the base, kept in the header of the tensors.
        extra_files: name -> text, written into the same folder.

    Raises:
        ValueError: n other than 1.
        AdapterError: NaN or Inf, or `path` holds something else.
    """
    from peft import LoraConfig  # slow to import, and reading needs none of it

    if weights.n != 1:
        raise ValueError(f"save_adapter: expected one adapter, got n = {weights.n}")
    _check_replaced(Path(path))
    weights.check_finite(path)
    spec = weights.spec
    alpha = spec.lora_alpha
    config = LoraConfig(
        r=spec.r,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=base_model_name,
        target_modules=sorted(_target_modules(spec)),
    ).to_dict()
    # PEFT's enum and sets are no JSON.
    config = {key: _plain(value) for key, value in config.items()}
    tensors: dict[str, Tensor] = {}
    for name in spec.paths:
        tensors[f"base_model.model.{name}.lora_A.weight"] = weights.lora_A[name][0].float()
        tensors[f"base_model.model.{name}.lora_B.weight"] = weights.lora_B[name][0].float()
    metadata = {"format": "pt"}
    if base_fingerprint is not None:
        metadata[FINGERPRINT_KEY] = base_fingerprint
    with folder(path) as temporary:
        save_tensors(temporary / TENSORS, tensors, metadata)
        write_text(temporary / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
        for name, text in (extra_files or {}).items():
            write_text(temporary / name, text)


def _target_modules(spec: LoRASpec) -> set[str]:
    """Short names where every layer has the same ones, full paths otherwise.

    PEFT matches a short name in every layer of the model: only a spec that is regular over
    consecutive layers from 0 can be said in short names.
    """
    by_layer: dict[int, list[str]] = {}
    for module in spec.modules:
        by_layer.setdefault(module.layer, []).append(module.name)
    regular = (
        sorted(by_layer) == list(range(len(by_layer)))
        and len({tuple(names) for names in by_layer.values()}) == 1
    )
    return set(spec.target_modules) if regular and len(by_layer) > 1 else set(spec.paths)


def _plain(value: Any) -> Any:
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        kind = "a file" if path.exists() else "nothing"
        raise AdapterError(mismatch(path, "adapter", "a folder", kind))
    if not (path / TENSORS).exists() and (path / "adapter_model.bin").exists():
        raise AdapterError(
            f"{path / 'adapter_model.bin'}: expected safetensors, got a pickle, which can run "
            "code when it is read: convert it with PEFT's save_pretrained first"
        )
    config = read_json(path / CONFIG, AdapterError)
    for key, supported in _SUPPORTED.items():
        if key in config and config[key] not in supported:
            expected = " or ".join(repr(value) for value in supported if value is not None)
            raise AdapterError(
                mismatch(path / CONFIG, key, expected or "none", repr(config[key]))
                + " (unsupported PEFT feature)"
            )
    return config


def _number(path: Path, config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        # Python's JSON has Infinity, and whole numbers beyond what a float holds.
        or not 0 < value <= sys.float_info.max
    ):
        raise AdapterError(mismatch(path / CONFIG, key, "a finite number above 0", repr(value)))
    return value


def _unreadable(file: Path, error: Exception) -> AdapterError:
    if isinstance(error, FileNotFoundError) or not file.exists():
        return AdapterError(f"{file}: not found")
    return AdapterError(mismatch(file, "content", "a whole safetensors file", str(error)))


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(file, error) from error


def _split(
    file: Path, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sort tensors by factor and module; every module needs both."""
    factors: dict[str, dict[str, Tensor]] = {"lora_A": {}, "lora_B": {}}
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match is None:
            expected = "base_model.model.<module>.lora_A|lora_B.weight"
            raise AdapterError(mismatch(file, "key", expected, key))
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise AdapterError(mismatch(file, key, "float32, bfloat16 or float16", tensor.dtype))
        factor, module = match["factor"], match["path"]
        if module in factors[factor]:
            raise AdapterError(mismatch(file, f"{module}.{factor}", "one key", f"also {key}"))
        factors[factor][module] = tensor
    if not tensors:
        raise AdapterError(mismatch(file, "keys", "at least one module", "none"))
    for have, lack in (("lora_A", "lora_B"), ("lora_B", "lora_A")):
        lone = sorted(factors[have].keys() - factors[lack].keys())
        if lone:
            raise AdapterError(
                mismatch(file, f"{lone[0]}.{lack}", f"as {have} is there", "nothing")
            )
    return factors["lora_A"], factors["lora_B"]


def _natural(path: str) -> tuple[Any, ...]:
    """Order of modules in a decoder: by layer, then attention before MLP, q, k, v, o, ..."""
    parts: list[Any] = []
    for part in path.split("."):
        if part.isdigit():
            parts.append((0, int(part), ""))
        elif part in ALL_LINEAR:
            parts.append((1, ALL_LINEAR.index(part), ""))
        else:
            # self_attn precedes mlp in every decoder layer, against the alphabet.
            rank = {"self_attn": 0, "mlp": 1}.get(part, 2)
            parts.append((2, rank, part))
    return tuple(parts)
