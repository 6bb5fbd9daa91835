"""DnD's generator files: a state dict, read without running code, as our HyperConvDecoder."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas.errors import RunError, SettingError, mismatch
from llgbm.generators.dnd.hyper_conv import HyperConvDecoder, HyperConvDecoderConfig
from llgbm.generators.dnd.hyper_conv_layer import Shape

# Our names and DnD's, which nests a layer's norm and four convolutions one level deeper.
_LAYER = "model.decoder.module_list"
_PARTS = {
    "norm.weight": "linear1.norm.weight",
    "norm.bias": "linear1.norm.bias",
    "width_first.width.weight": "linear1.conv1w.weight",
    "width_first.height.weight": "linear1.conv1h.weight",
    "height_first.height.weight": "linear1.conv2h.weight",
    "height_first.width.weight": "linear1.conv2w.weight",
    "bias": "linear1.bias",
    "tokens.weight": "linear2.weight",
    "tokens.bias": "linear2.bias",
}
_REDUCTION = {"shorten": "down_proj", "mix": "gate_proj"}
# Of the loss, and of the frozen text encoder, which DnD leaves out of its files.
_TOKEN_WEIGHTS, _TEXT_ENCODER = "criterion_weight", "condition_module."


@dataclass(frozen=True)
class DnDGenerator:
    """What a generator file holds.

    Attributes:
        decoder: with the file's parameters, on the CPU, float32, in evaluation mode.
        token_weights: [N] of the loss it was trained with; None where the file has none.
    """

    decoder: HyperConvDecoder
    token_weights: Tensor | None


def load_dnd_generator(
    path: Path | str, config: HyperConvDecoderConfig | None = None
) -> DnDGenerator:
    """Read a generator that DnD wrote.

    Args:
        path: a `.pth` file, read with `weights_only=True`: one that holds code is refused unread.
        config: sizes that the file must have; read off its shapes where None.

    Raises:
        RunError: not found, not a state dict of tensors, keys that are missing or extra, or
            of the wrong shape, NaN or Inf.
    """
    path = Path(path)
    state = {
        key: value
        for key, value in read_state_dict(path).items()
        if not key.startswith(_TEXT_ENCODER)
    }
    weights = state.pop(_TOKEN_WEIGHTS, None)
    if config is None:
        config = _config_of(path, state)
    with torch.device("meta"):
        decoder = HyperConvDecoder(config)
    names = {dnd_key(name): name for name in decoder.state_dict()}
    shapes = {dnd_key(name): value.shape for name, value in decoder.state_dict().items()}
    missing, extra = sorted(set(shapes) - set(state)), sorted(set(state) - set(shapes))
    if missing or extra:
        raise RunError(f"{path}: keys: missing {missing[:3]}, extra {extra[:3]}")
    for key, shape in shapes.items():
        if state[key].shape != shape:
            raise RunError(mismatch(path, key, tuple(shape), tuple(state[key].shape)))
    if weights is not None and weights.numel() != config.features[-1][0]:
        expected = f"{config.features[-1][0]} numbers"
        raise RunError(mismatch(path, _TOKEN_WEIGHTS, expected, tuple(weights.shape)))
    # assign: a published file has gigabytes, and the decoder none of its own yet.
    decoder.load_state_dict({names[key]: state[key].float() for key in shapes}, assign=True)
    return DnDGenerator(decoder.eval(), None if weights is None else weights.flatten().float())


def dnd_key(name: str) -> str:
    """Return DnD's key of a parameter of HyperConvDecoder."""
    if name.startswith("reduction."):
        _, linear, part = name.split(".")
        return f"{_REDUCTION[linear]}.{part}"
    _, _, layer, part = name.split(".", 3)
    return f"{_LAYER}.{layer}.{_PARTS[part]}"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors by name on the CPU, without running anything in it.

    Raises:
        RunError: not found, damaged, anything but tensors, NaN or Inf.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: not found") from error
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        got = f"code ({code[1]})" if code else "something else"
        raise RunError(
            mismatch(path, "content", "tensors only", got) + ": refused unread"
        ) from error
    except Exception as error:  # damaged bytes make the unpickler raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunError(mismatch(path, "content", "a whole state dict", reason)) from error
    if not isinstance(content, Mapping):
        raise RunError(mismatch(path, "content", "a state dict", type(content).__name__))
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise RunError(mismatch(path, str(key), "a tensor", type(value).__name__))
        if value.is_meta or value.layout != torch.strided or not value.is_floating_point():
            raise RunError(mismatch(path, key, "dense floating point", value.dtype))
        if not torch.isfinite(value).all():
            raise RunError(f"{path}: {key}: expected finite values, got NaN or Inf")
    return dict(content)


def _config_of(path: Path, state: Mapping[str, Tensor]) -> HyperConvDecoderConfig:
    """Read sizes off the shapes of a state dict."""

    def shape(key: str, dims: int) -> tuple[int, ...]:
        if key not in state:
            raise RunError(f"{path}: keys: missing {key}: expected a generator that DnD wrote")
        if state[key].dim() != dims:
            raise RunError(mismatch(path, key, f"{dims} dimensions", tuple(state[key].shape)))
        return tuple(state[key].shape)

    layers = sum(bool(re.fullmatch(rf"{_LAYER}\.\d+\.linear2\.weight", key)) for key in state)
    features: list[Shape] = []
    outputs: tuple[int, ...] = ()
    for layer in range(max(layers, 1)):
        height, width = shape(f"{_LAYER}.{layer}.linear1.norm.weight", 2)
        outputs = shape(f"{_LAYER}.{layer}.linear2.weight", 4)
        features.append((outputs[1], height, width))
    height, width = shape(f"{_LAYER}.{len(features) - 1}.linear1.bias", 2)
    features.append((outputs[0], height, width))
    reduced = shape("down_proj.weight", 2)[1] if "down_proj.weight" in state else None
    try:
        return HyperConvDecoderConfig(tuple(features), outputs[-1], reduced_from=reduced)
    except SettingError as error:
        raise RunError(f"{path}: {error}") from error
