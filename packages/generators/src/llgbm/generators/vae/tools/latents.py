"""Latents of what a command line names: a text, or the folder of an adapter."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas.adapter_folders import CONFIG
from llgbm.deltas.errors import AdapterError, RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.module_files import base_of
from llgbm.deltas.peft_format import check_base, load_adapter, save_adapter
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import (
    Condition,
    ConditionBatch,
    condition_from_prompts,
    embed_conditions,
)
from llgbm.generators.dataset import read_prompts
from llgbm.generators.runs import RunFolder
from llgbm.generators.spec_words import told_apart
from llgbm.generators.text_encoder import PretrainedTextEncoder
from llgbm.generators.vae.files import TENSORS, load_vae
from llgbm.generators.vae.generator import LoRAGeneratorVAE

# Prompts of an adapter's own that make its condition, as in training.
PROMPTS = 8


def find_vae(path: Path) -> Path:
    """Return the folder of a trained VAE: `path` itself, or the only one of a run.

    Raises:
        RunError: none there, or several.
    """
    if (path / TENSORS).exists():
        return path
    folder = RunFolder(path).root / "generators"
    found = sorted(p.parent for p in folder.glob(f"*/{TENSORS}")) if folder.is_dir() else []
    if len(found) != 1:
        names = [p.name for p in found]
        raise RunError(
            f"{path}: vae: expected one trained by `llgbm train-vae`, got {names or 'none'}"
            + (f": give {found[0]}" if found else "")
        )
    return found[0]


class NamedLatents:
    """A VAE with what it needs to read names.

    Args:
        path: of the VAE, or of a run with one.
    """

    def __init__(self, path: Path) -> None:
        self.folder = find_vae(path)
        self.vae: LoRAGeneratorVAE = load_vae(self.folder)
        self.base_model, self.base_fingerprint = base_of(self.vae.metadata, self.folder)
        self.encoder = PretrainedTextEncoder(self.vae.config.text_encoder)

    def condition(self, text: str) -> ConditionBatch:
        """Embed one sentence as a condition.

        Raises:
            RunError: an empty one.
        """
        if not text.strip():
            raise RunError("text: expected a sentence or the folder of an adapter, got none")
        return embed_conditions([Condition((text,), "description")], self.encoder, None)

    @torch.no_grad()
    def latent(self, name: str) -> Tensor:
        """Return the latent [size] of an adapter's folder, or of a text.

        What exists is a folder, and so is what has a separator and no space.

        Raises:
            AdapterError: a folder that cannot be read or encoded, or of another base.
            RunError: no adapter there, one of another spec, or one without prompts.json or
                condition.json to tell it from.
        """
        path = Path(name)
        if not _is_path(name):
            return self.vae.centre(self.condition(name))[0]
        if not (path / CONFIG).exists():
            raise RunError(mismatch(path, CONFIG, "the folder of an adapter", "none"))
        known = self.vae.metadata
        print_ = known.get("source_fingerprint", self.base_fingerprint)
        check_base(path, print_, known.get("source_model", self.base_model))
        weights = load_adapter(path)
        if weights.spec != self.vae.source:
            expected, got = told_apart(self.vae.source, weights.spec)
            raise RunError(mismatch(path, "spec", f"{expected} as the VAE's", got))
        told = embed_conditions([self._own_condition(path)], self.encoder, None)
        latent = self.vae.encode(told, weights)[0].mu[0]
        if not torch.isfinite(latent).all():
            raise AdapterError(f"{path}: latent: expected finite numbers, got NaN or Inf")
        return latent

    def _own_condition(self, path: Path) -> Condition:
        """What an adapter was taught or written from."""
        written = path / "condition.json"
        if written.exists():
            content = read_json(written, RunError)
            try:
                return Condition(content["texts"], content["kind"])
            except (KeyError, TypeError, ValueError) as error:
                raise RunError(f"{written}: expected a kind and texts, got {error}") from error
        prompts, _ = read_prompts(path)
        return condition_from_prompts(prompts[:PROMPTS])

    def write(self, weights: LoRAWeights, folders: list[Path]) -> None:
        """Write n adapters to as many folders."""
        for place, folder in enumerate(folders):
            one = weights.select([place])
            one.check_finite(folder)
            save_adapter(
                one,
                folder,
                base_model_name=self.base_model,
                base_fingerprint=self.base_fingerprint,
            )


def _is_path(name: str) -> bool:
    """Whether a name of a command line is meant as a path and not as a sentence."""
    try:
        exists = Path(name).exists()
    except OSError:  # a sentence too long for a path
        exists = False
    return exists or (any(mark in name for mark in (os.sep, "/")) and not re.search(r"\s", name))
