"""Validation of a training: unseen conditions of the tasks trained on, and of other families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from llgbm.deltas.by_layer import delta_cosine, delta_norm_ratio
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.losses import WeightLoss
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import TrainingInputs

Record = dict[str, Any]


class Validation:
    """Conditions embedded once, measured as often as asked.

    Args:
        inputs: of the training.
        encoder: of texts.
        embeddings: where they are kept.
        device: to measure on.
    """

    def __init__(
        self,
        inputs: TrainingInputs,
        encoder: PretrainedTextEncoder,
        embeddings: EmbeddingCache,
        device: torch.device,
    ) -> None:
        self.device = device
        self.parts = {"validation": inputs.seen}
        if inputs.families is not None:
            self.parts["validation_family"] = inputs.families
        self.conditions = {
            name: embed_conditions(part.conditions, encoder, embeddings)
            for name, part in self.parts.items()
        }

    @torch.no_grad()
    def measure(
        self, generator: LoRAGenerator, behaviour: Behaviour, step: int
    ) -> dict[str, Record]:
        """Return a record of metrics.jsonl for each part."""
        records: dict[str, Record] = {}
        for split, part in self.parts.items():
            output = generator(self.conditions[split].to(self.device))
            teacher = part.deltas.to(self.device)
            computed = behaviour(output.weights)
            measured = {
                "delta_cosine": delta_cosine(computed, teacher).mean(),
                "delta_norm_ratio": delta_norm_ratio(computed, teacher).mean(),
                "head_cosine": delta_cosine(output.delta, teacher).mean(),
                "weight": WeightLoss()(output.weights, part.weights.to(self.device)),
            }
            numbers = {name: round(float(value), 6) for name, value in measured.items()}
            records[split] = {"step": step, "split": split, **numbers}
        return records

    @staticmethod
    def deciding(records: Mapping[str, Record]) -> float:
        """What the best step is chosen by: the mean delta cosine of all parts.

        Of the tasks trained on alone, the best step may be what remembers them best; of other
        families alone, it is often one of the first, where little has been learnt yet.
        """
        cosines = [float(record["delta_cosine"]) for record in records.values()]
        return sum(cosines) / len(cosines)
