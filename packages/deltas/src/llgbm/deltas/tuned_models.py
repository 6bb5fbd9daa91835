"""Full models on disk that were tuned from a base: checked before they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from llgbm.deltas.adapter_folders import MODEL_CONFIG, MODEL_WEIGHTS, model_weight_files
from llgbm.deltas.base_models import load_frozen_model, load_tokenizer
from llgbm.deltas.errors import ModelError, mismatch
from llgbm.deltas.fingerprint import model_folder_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.model_delta import check_vocabulary
from llgbm.deltas.spec import device_of
from llgbm.deltas.tokenizers import register_tokenizer, tokenizer_of

# Files by which a folder brings a tokenizer of its own.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def check_tuned_folder(folder: Path, base: nn.Module) -> str:
    """Compare the config of a model folder with the base, without loading its weights.

    Args:
        folder: with config.json and model*.safetensors.
        base: loaded.

    Returns:
        Fingerprint of its files.

    Raises:
        ModelError: a file is missing or malformed, or another architecture or size.
    """
    config = read_json(folder / MODEL_CONFIG, ModelError)
    weights = model_weight_files(folder)
    if not weights:
        raise ModelError(mismatch(folder, "weights", MODEL_WEIGHTS, "no such file"))
    expected: Any = base.config
    for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        # A model of several parts keeps its sizes deeper: they are compared once it is loaded.
        if key in config and config[key] != getattr(expected, key, None):
            wanted = f"{getattr(expected, key, None)} as in the base"
            raise ModelError(mismatch(folder / MODEL_CONFIG, key, wanted, config[key]))
    return model_folder_fingerprint(folder, weights)


def load_tuned_model(folder: Path, base: nn.Module) -> Any:
    """Load a full model as the base is loaded: same dtype, device and attention.

    Args:
        folder: with config.json and model*.safetensors.
        base: loaded.

    Raises:
        ModelError: it cannot be loaded, or its tokenizer is not the base's.
    """
    dtype, device = next(base.parameters()).dtype, device_of(base)
    model = load_frozen_model(str(folder), str(folder), dtype, device)
    if any((folder / name).exists() for name in _TOKENIZER_FILES):
        tokenizer = load_tokenizer(str(folder), str(folder))
        check_vocabulary(folder, tokenizer_of(base), tokenizer)
        register_tokenizer(model, tokenizer)
    return model
