"""Capacity oracle: how much of a text can M free vectors tell a frozen reader at all?

No encoder takes part: the vectors of each sample are optimised against the reader itself. What is
found could be written by a compressor with as many slots; where little is found, vectors or
optimisation may be at fault (anchor, section 4, step 2).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example, check_examples
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.latents import slot_mask
from llgbm.latentwire.metrics import f1_score
from llgbm.latentwire.poolers.base import segments
from llgbm.latentwire.prefix import Prefix, empty_prefix, from_embeddings, replayed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored, score
from llgbm.latentwire.slots import SlotsConfig


@dataclass(frozen=True)
class OracleConfig:
    """How vectors are fitted.

    Args:
        slots: how many vectors stand for a context.
        tokens: contexts are cut to so many tokens; 0 leaves them whole.
        steps: of Adam, at most.
        learning_rate: of Adam, times the RMS of the reader's embeddings; falls as a cosine to 0.
        reconstruction: weight of the context's cross-entropy.
        answer: weight of the answer's cross-entropy.
        enough: recall of every sample at which fitting stops early; above 1 never.
    """

    slots: SlotsConfig = field(default_factory=SlotsConfig)
    tokens: int = 0
    steps: int = 300
    learning_rate: float = 1.0
    reconstruction: float = 1.0
    answer: float = 0.0
    enough: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(0, tokens=self.tokens, reconstruction=self.reconstruction)
        require_at_least(0, answer=self.answer, enough=self.enough)
        require_at_least(1, steps=self.steps)
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                f"learning_rate: expected above 0, finite, got {self.learning_rate:g}"
            )
        if self.reconstruction + self.answer == 0:
            raise ConfigError("oracle: expected a weight above 0, got none")


@dataclass(frozen=True)
class OracleResult:
    """What vectors told the reader; one number a sample where lists stand.

    Attributes:
        recall: share of the context's tokens that are the reader's first guess, teacher-forced.
        start_recall: the same before the first step (means of the embeddings of each segment).
        without: the same with no vectors at all: what the reader guesses anyway.
        f1: of the answers written from the vectors; empty where `answer` weighs nothing.
        nll: nats a token of the contexts, after fitting.
        slots: vectors of each sample.
        tokens: of each context.
        steps: taken.
        curve: mean recall before each step.
        seconds: wall-clock.
    """

    recall: list[float]
    start_recall: list[float]
    without: list[float]
    f1: list[float]
    nll: list[float]
    slots: list[int]
    tokens: list[int]
    steps: int
    curve: list[float]
    seconds: float


def capacity_oracle(
    reader: Reader,
    examples: Sequence[Example],
    config: OracleConfig | None = None,
    decoding: DecodingConfig | None = None,
) -> OracleResult:
    """Fit M vectors to each of b samples, all at once; no sample's vectors see another's.

    Args:
        reader: frozen.
        examples: samples; questions and answers are read only where `answer` weighs something.
        config: of the fit.
        decoding: of the written answers.

    Raises:
        PromptError: no examples, or one without a context or an answer.
    """
    config = config or OracleConfig()
    check_examples(examples)
    begin = time.perf_counter()
    contexts = [reader.tokens(example.context) for example in examples]
    contexts = [ids[: config.tokens or None] for ids in contexts]
    endings = [reader.tokens(example.ending) for example in examples]
    answers = [reader.answer_tokens(example.answer) for example in examples]
    fitted = fit_vectors(reader, contexts, config, endings, answers)
    prefix, lengths = fitted.prefix, _lengths(reader, contexts)
    with torch.no_grad():
        told = _reconstructed(reader, prefix, contexts)
        bare = _reconstructed(reader, empty_prefix(reader, len(contexts)), contexts)
    f1: list[float] = []
    if config.answer:
        texts = write(reader, prefix, endings, decoding).texts
        f1 = [f1_score(t, e.accepted) for t, e in zip(texts, examples, strict=True)]
    return OracleResult(
        recall=_recall(told, lengths),
        start_recall=fitted.curve[0],
        without=_recall(bare, lengths),
        f1=f1,
        nll=_by_row(told.nll, told, lengths).tolist(),
        slots=prefix.mask.sum(1).tolist(),
        tokens=lengths.tolist(),
        steps=fitted.steps,
        curve=[sum(each) / len(each) for each in fitted.curve],
        seconds=time.perf_counter() - begin,
    )


@dataclass(frozen=True)
class Fitted:
    """Vectors of b contexts.

    Attributes:
        prefix: of them.
        curve: recall of every context before each step.
        steps: taken.
    """

    prefix: Prefix
    curve: list[list[float]]
    steps: int


@torch.enable_grad()
def fit_vectors(
    reader: Reader,
    contexts: list[list[int]],
    config: OracleConfig,
    endings: Sequence[Sequence[int]] = (),
    answers: Sequence[Sequence[int]] = (),
) -> Fitted:
    """Optimise vectors from the means of the contexts' segments; see `capacity_oracle`.

    Args:
        reader: frozen.
        contexts: b lists of token ids.
        config: of the fit; but for `enough` no context's vectors depend on another's.
        endings: b lists of token ids, where `answer` weighs something.
        answers: the same.
    """
    lengths = _lengths(reader, contexts)
    counts = config.slots.counts(lengths)
    mask = slot_mask(counts)
    values = (segments(lengths, counts) @ replayed(reader, contexts).embeds).detach()
    values.requires_grad_(True)
    optimiser = torch.optim.Adam([values], lr=config.learning_rate * reader.embedding_rms)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    curve: list[list[float]] = []
    progress = tqdm(range(config.steps), desc="oracle", unit="step", leave=False)
    taken = 0
    for _ in progress:
        prefix = from_embeddings(values, mask)
        loss = values.new_zeros(())
        with torch.set_grad_enabled(config.reconstruction > 0):
            told = _reconstructed(reader, prefix, contexts)
        curve.append(_recall(told, lengths))
        progress.set_postfix(recall=f"{sum(curve[-1]) / len(contexts):.3f}", refresh=False)
        if min(curve[-1]) >= config.enough:
            break
        if config.reconstruction:
            loss = loss + config.reconstruction * _by_row(told.nll, told, lengths).sum()
        if config.answer:
            said = score(reader, prefix, endings, answers)
            spans = torch.bincount(said.row, minlength=len(answers))
            loss = loss + config.answer * _by_row(said.nll, said, spans).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        taken += 1
    progress.close()
    return Fitted(from_embeddings(values.detach(), mask), curve, taken)


def _lengths(reader: Reader, contexts: list[list[int]]) -> Tensor:
    """Tokens [b] of every context."""
    return torch.tensor([len(ids) for ids in contexts], device=reader.device)


def _reconstructed(reader: Reader, prefix: Prefix, contexts: list[list[int]]) -> Scored:
    """The reader's predictions of the contexts right after the prefix."""
    return score(reader, prefix, [[] for _ in contexts], contexts)


def _recall(scored: Scored, lengths: Tensor) -> list[float]:
    """Share of every row's tokens that are the first guess; what is not scored is a miss."""
    hits = (scored.logits.detach().argmax(-1) == scored.targets).float()
    return _by_row(hits, scored, lengths).tolist()


def _by_row(values: Tensor, scored: Scored, lengths: Tensor) -> Tensor:
    """Sum [b] of a number per token [s] over the length [b] of its row."""
    sums = torch.zeros(len(lengths), device=values.device).index_add(0, scored.row, values)
    return sums / lengths
