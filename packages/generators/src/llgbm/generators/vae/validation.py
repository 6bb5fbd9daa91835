"""Validation of a VAE: unseen teachers, rebuilt, and adapters written for conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llgbm.deltas.by_layer import delta_cosine
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.held_out import HeldOutTeachers
from llgbm.generators.vae.readings import active_units, codebook_use, mutual_information


@dataclass(frozen=True)
class VAEValidation:
    """Unseen teachers, of tasks trained on (`held_out`) and of other families.

    Attributes:
        parts: split -> teachers.
        encoder: of texts.
        embeddings: where they are kept.
        device: to measure on.
    """

    parts: Mapping[str, HeldOutTeachers]
    encoder: PretrainedTextEncoder
    embeddings: EmbeddingCache
    device: torch.device

    @torch.no_grad()
    def measure(
        self, vae: LoRAGeneratorVAE, behaviour: Behaviour, step: int
    ) -> dict[str, dict[str, Any]]:
        """Return a record of metrics.jsonl for each part.

        `update_cosine` and `delta_cosine` are of rebuilt teachers; `written_cosine` is the delta
        cosine of adapters written for the condition alone.
        """
        vae.eval()
        records = {}
        for split, part in self.parts.items():
            told = embed_conditions(part.conditions, self.encoder, self.embeddings).to(self.device)
            teachers, deltas = part.weights.to(self.device), part.deltas.to(self.device)
            output = vae(told, part.read.to(self.device))
            latent = output.latent
            numbers = {
                "update_cosine": float(update_cosine(output.weights, teachers).mean()),
                "delta_cosine": float(delta_cosine(behaviour(output.weights), deltas).mean()),
                "predicted_cosine": float(delta_cosine(output.delta, deltas).mean()),
                "written_cosine": float(delta_cosine(behaviour(vae.write(told)), deltas).mean()),
            }
            if latent.rates is not None:
                numbers["kl"] = float(latent.rates.mean(0).sum())
            if len(latent.mu) > 1:
                numbers["active_units"] = active_units(latent.mu)
            if latent.logvar is not None:
                generator = torch.Generator().manual_seed(step)
                numbers["mutual_information"] = mutual_information(
                    latent.mu, latent.logvar, generator
                )
            if latent.codes is not None:
                use = codebook_use(latent.codes, vae.bottleneck.codebook_size)  # type: ignore[arg-type]
                numbers["codes_used"] = use.used
                numbers["code_perplexity"] = use.perplexity
            rounded = {name: round(value, 6) for name, value in numbers.items()}
            records[split] = {"step": step, "split": split, **rounded}
        vae.train()
        return records

    @staticmethod
    def deciding(records: Mapping[str, Mapping[str, Any]]) -> float:
        """What the best step is chosen by: how well unseen teachers of seen tasks come back."""
        return float(records["held_out"]["update_cosine"])
