"""Two aims in tension, measured on adapters: what a task gains, and how little else is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.fingerprint import adapter_fingerprint
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


@dataclass(frozen=True)
class Observed:
    """n adapters on single examples and texts.

    Attributes:
        gained: [n, e] float32, nats that the right choice's likelihood rises.
        right: [n, e] float32, 1 where the likeliest choice is right.
        lost: [n, t] float32, KL(base || adapted) summed over the tokens of a text, nats.
        tokens: [t], of each text.
        right_of_others: [n, o] float32, of other tasks' examples; None where there are none.
    """

    gained: Tensor
    right: Tensor
    lost: Tensor
    tokens: Tensor
    right_of_others: Tensor | None = None

    def means(self) -> dict[str, Tensor]:
        """Metrics, [n] each."""
        return {
            GAIN: self.gained.mean(1),
            RETENTION: -self.lost.sum(1) / self.tokens.sum(),
            ACCURACY: self.right.mean(1),
            **({} if self.right_of_others is None else {OTHERS: self.right_of_others.mean(1)}),
        }

    def select(self, place: int) -> Observed:
        """One of the adapters."""
        rows, others = slice(place, place + 1), self.right_of_others
        return Observed(
            self.gained[rows],
            self.right[rows],
            self.lost[rows],
            self.tokens,
            None if others is None else others[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Observed]) -> Observed:
        """One after another, all on the same examples and texts."""
        others = [each.right_of_others for each in parts if each.right_of_others is not None]
        return cls(
            torch.cat([each.gained for each in parts]),
            torch.cat([each.right for each in parts]),
            torch.cat([each.lost for each in parts]),
            parts[0].tokens,
            torch.cat(others) if others else None,
        )


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
        self.base_hidden = self.reader.hidden(LoRAWeights.zeros(spec))[0]
        self.base_scores = score_choices(model, tokenizer, self.examples).right_choice("none")
        # By fingerprint of the weights.
        self._known: dict[str, Observed] = {}

    def measure(self, weights: LoRAWeights) -> list[dict[str, float]]:
        """Metrics of n adapters."""
        return as_rows(self.observe(weights))

    @torch.no_grad()
    def observe(self, weights: LoRAWeights) -> Observed:
        """What n adapters do on every example and text; the same adapter is measured once."""
        names = [adapter_fingerprint(weights, place) for place in range(weights.n)]
        new = {name: place for place, name in enumerate(names) if name not in self._known}
        places = list(new.values())
        for start in range(0, len(places), AT_ONCE):
            part = places[start : start + AT_ONCE]
            seen = self._observe(weights.select(part))
            for row, place in enumerate(part):
                self._known[names[place]] = seen.select(row)
        return Observed.concatenate([self._known[name] for name in names])

    def _observe(self, part: LoRAWeights) -> Observed:
        scores = score_choices(self.model, self.tokenizer, self.examples, part)
        lost, tokens = self.reader.kl_by_probe(self.base_hidden, self.reader.hidden(part))
        return Observed(
            scores.right_choice("none") - self.base_scores,
            scores.correct().float(),
            lost.cpu(),
            tokens.cpu(),
            self._others(part),
        )

    def _others(self, part: LoRAWeights) -> Tensor | None:
        if not self.others:
            return None
        return score_choices(self.model, self.tokenizer, self.others, part).correct().float()


def as_rows(observed: Observed) -> list[dict[str, float]]:
    """Metrics of each adapter."""
    means = {name: values.tolist() for name, values in observed.means().items()}
    return [dict(zip(means, values, strict=True)) for values in zip(*means.values(), strict=True)]
