"""Numbers of one training step for a line of diagnostics.jsonl."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored

# Names that hold parts and are none.
HOLDERS = {"port", "ports", "parts", "heads", "terms"}


@dataclass(frozen=True)
class DiagnosticsConfig:
    """How much a line says.

    Args:
        commonest: predictions in the histogram.
        texts: of the batch, from the first, whose slots are decoded; 0 for none.
        slots: of each of them.
    """

    commonest: int = 5
    texts: int = 1
    slots: int = 8

    def __post_init__(self) -> None:
        if self.commonest < 1 or self.texts < 0 or self.slots < 1:
            raise ConfigError(
                "diagnostics: expected commonest and slots of at least 1 and no negative texts, "
                f"got {self.commonest}, {self.slots}, {self.texts}"
            )


@dataclass(frozen=True)
class NearSlot:
    """What the vocabulary entry nearest to a slot says.

    Attributes:
        text: row of the batch.
        slot: of that text.
        token: the entry, decoded.
        cosine: of the slot and the entry's embedding.
        norm_ratio: the slot's norm over the entry's.
    """

    text: int
    slot: int
    token: str
    cosine: float
    norm_ratio: float


def part_gradient_norms(parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """Gradient norm of every part, after a backward pass and before clipping.

    Args:
        parameters: of a compressor or an objective, by their full names.

    Returns:
        Norms by part (encoder, pooler, adapter, way, a term's name for its head); 0 where no
        gradient came (anchor rule 12).
    """
    squares: dict[str, float] = defaultdict(float)
    for name, parameter in parameters.items():
        gradient = parameter.grad
        squares[part_of(name)] += (
            0.0 if gradient is None else float(gradient.detach().float().square().sum())
        )
    return {part: square**0.5 for part, square in squares.items()}


def part_of(name: str) -> str:
    """Part that a parameter belongs to: `port.parts.adapter.scale` is the adapter's."""
    return next(word for word in name.split(".") if word not in HOLDERS)


def term_gradient_norms(
    values: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]
) -> dict[str, float]:
    """Gradient norm of what every term adds; before the backward pass, whose graph stays.

    It costs one backward pass a term.

    Args:
        values: scalars by term; see `Objective.contributions`.
        parameters: with regard to which.
    """
    wanted = list(parameters.values())
    norms = {}
    for name, value in values.items():
        gradients = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
        total = sum(float(each.float().square().sum()) for each in gradients if each is not None)
        norms[name] = total**0.5
    return norms


@torch.no_grad()
def first_token_numbers(scored: Scored) -> dict[str, float]:
    """Means over answers of what the logits of first tokens say.

    Returns:
        `margin`: gold logit less the best other, below 0 where another one wins; `top_margin`:
        best less second best; `largest`: probability of the best; `nats`: entropy.
    """
    first = scored.step == 0
    logits, gold = scored.logits[first], scored.targets[first, None]
    others = logits.scatter(-1, gold, -torch.inf).amax(-1)
    best = logits.topk(2).values
    chances = logits.log_softmax(-1)
    return {
        "margin": float((logits.gather(-1, gold)[:, 0] - others).mean()),
        "top_margin": float((best[:, 0] - best[:, 1]).mean()),
        "largest": float(chances.amax(-1).exp().mean()),
        "nats": float(-(chances.exp() * chances).sum(-1).mean()),
    }


def commonest(texts: Sequence[str], number: int) -> list[tuple[str, int]]:
    """The commonest texts with how often each occurs, commonest first."""
    return Counter(texts).most_common(number)


@torch.no_grad()
def nearest_tokens(
    reader: Reader, embeds: Tensor, mask: Tensor, texts: int, slots: int
) -> list[NearSlot]:
    """Vocabulary entries that slots are nearest to by cosine.

    Args:
        reader: whose embeddings are searched.
        embeds: [b, m, h] float32, what it reads.
        mask: [b, m] bool.
        texts: rows, from the first.
        slots: of each row, from the first.
    """
    chosen = mask[:texts, :slots].nonzero().tolist()
    values = embeds[:texts, :slots][mask[:texts, :slots]].float()
    table = reader.embedding.float()
    cosines, ids = (normalize(values, dim=-1) @ normalize(table, dim=-1).T).max(-1)
    norms = table[ids].norm(dim=-1).clamp(min=torch.finfo(table.dtype).tiny)
    ratios = values.norm(dim=-1) / norms
    return [
        NearSlot(text, slot, reader.tokenizer.decode([token]), cosine, ratio)
        for (text, slot), token, cosine, ratio in zip(
            chosen, ids.tolist(), cosines.tolist(), ratios.tolist(), strict=True
        )
    ]


def diagnose(
    step: Step,
    config: DiagnosticsConfig | None = None,
    *,
    keep_probability: float = 1.0,
    predictions: Sequence[str] | None = None,
    parts: Mapping[str, float] | None = None,
    terms: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Everything that a line says of a step, ready for JSON.

    Args:
        step: whose terms were computed.
        config: how much; the defaults where None.
        keep_probability: of latent dropout at this step.
        predictions: answers for the histogram; the first tokens predicted where None.
        parts: see `part_gradient_norms`; left out where None.
        terms: see `term_gradient_norms`; left out where None.
    """
    config = config or DiagnosticsConfig()
    if predictions is None:
        best = step.scored.logits[step.scored.step == 0].argmax(-1).tolist()
        predictions = [step.reader.tokenizer.decode([token]) for token in best]
    line: dict[str, Any] = {
        "step": step.number,
        "keep_probability": keep_probability,
        "first_token": first_token_numbers(step.scored),
        "commonest": [list(each) for each in commonest(predictions, config.commonest)],
    }
    if parts is not None:
        line["part_gradient_norms"] = dict(parts)
    if terms is not None:
        line["term_gradient_norms"] = dict(terms)
    if config.texts and step.embeds is not None:
        near = nearest_tokens(
            step.reader, step.embeds, step.latents.mask, config.texts, config.slots
        )
        line["slots"] = [asdict(each) for each in near]
    return line
