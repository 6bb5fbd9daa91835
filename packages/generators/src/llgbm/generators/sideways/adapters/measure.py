"""Two aims in tension, measured on adapters: what a task gains, and how little else is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.task import Example
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.evaluation.probe_readings import ProbeReader

GAIN, RETENTION, ACCURACY = "gain", "retention", "accuracy"
OTHERS = "accuracy_on_others"
# Adapters of one forward: more take more memory and no less time.
AT_ONCE = 4


class AdapterMeter:
    """Measures adapters of one spec on one set of examples and texts.

    Metrics, larger is better in each: `gain`, nats that the right choice's likelihood among the
    choices rises above the bare base's; `accuracy`, share of examples whose likeliest choice is
    right; `retention`, minus the mean KL(base || adapted) of next-token distributions on general
    text, nats; `accuracy_on_others`, share of other tasks' examples, where there are some.

    Args:
        model: frozen base.
        tokenizer: of the base.
        spec: of the adapters.
        examples: of the task.
        texts: general ones.
        others: examples of other tasks.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        spec: LoRASpec,
        examples: Sequence[Example],
        texts: ProbeSet,
        others: Sequence[Example] = (),
    ) -> None:
        self.model, self.tokenizer, self.examples = model, tokenizer, tuple(examples)
        self.others = tuple(others)
        self.reader = ProbeReader(model, texts, DeltaSpec())
        self.base_hidden = self.reader.read(LoRAWeights.zeros(spec)).hidden
        self.base_score = float(
            score_choices(model, tokenizer, self.examples).right_choice("none").mean()
        )

    @torch.no_grad()
    def measure(self, weights: LoRAWeights) -> list[dict[str, float]]:
        """Metrics of n adapters."""
        found: list[dict[str, float]] = []
        for start in range(0, weights.n, AT_ONCE):
            part = weights.select(slice(start, start + AT_ONCE))
            scores = score_choices(self.model, self.tokenizer, self.examples, part)
            hidden = self.reader.read(part).hidden
            lost = self.reader.kl(self.base_hidden, hidden)[:, 0].cpu()
            gained = scores.right_choice("none").mean(1) - self.base_score
            right = scores.correct().float().mean(1)
            more = self._others(part)
            found += [
                {
                    GAIN: float(gained[row]),
                    RETENTION: -float(lost[row]),
                    ACCURACY: float(right[row]),
                    **({} if more is None else {OTHERS: float(more[row])}),
                }
                for row in range(part.n)
            ]
        return found

    def _others(self, part: LoRAWeights) -> torch.Tensor | None:
        if not self.others:
            return None
        scores = score_choices(self.model, self.tokenizer, self.others, part)
        return scores.correct().float().mean(1)
