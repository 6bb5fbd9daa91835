"""Selection: positions that answers are made of should be ranked above the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.poolers.select import SelectPooler
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("selection")
@dataclass(frozen=True)
class SelectionTermConfig:
    """Cross-entropy of a text's scores against the places of its answers.

    Args:
        weight: of the term.
        schedule: of the weight.
    """

    weight: float = 1.0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def build(self, compressor: Compressor, reader: Reader) -> SelectionTerm:
        """Build it.

        Raises:
            ConfigError: a pooler that selects nothing.
        """
        if not isinstance(compressor.pooler, SelectPooler):
            raise ConfigError("selection: expected the pooler `select`, which alone has scores")
        return SelectionTerm()


class SelectionTerm(Term):
    """Mean over answers of -log softmax(scores) at the answer's tokens, nats.

    Answers that do not stand in their text teach nothing.
    """

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        scores = step.whole_latents.scores
        assert scores is not None
        losses, kept = [], []
        slots = step.whole_latents.counts.tolist()
        for row, example in enumerate(step.examples):
            places = answer_places(step.reader, example.context, example.accepted)
            if not places:
                continue
            # Scores of padding are not of this text.
            told = scores[row, : len(step.contexts[row])]
            losses.append(-told.log_softmax(0)[places].mean())
            best = told.detach().topk(min(slots[row], len(told))).indices
            kept.append(float(torch.isin(torch.tensor(places), best.cpu()).float().mean()))
        self.logged = {"kept": sum(kept) / len(kept)} if kept else {}
        return torch.stack(losses).mean() if losses else scores.sum() * 0.0


def answer_places(reader: Reader, context: str, answers: Sequence[str]) -> list[int]:
    """Positions of the context's tokens that hold a character of an answer, ascending."""
    lowered = context.lower()
    spans = []
    for answer in {each.strip().lower() for each in answers} - {""}:
        begin = lowered.find(answer)
        while begin >= 0:
            spans.append((begin, begin + len(answer)))
            begin = lowered.find(answer, begin + 1)
    offsets = reader.tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
    return [
        place
        for place, (begin, end) in enumerate(offsets["offset_mapping"])
        if any(begin < last and end > first for first, last in spans)
    ]
