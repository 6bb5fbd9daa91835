"""Joint rescoring: several readers propose answers, all score all of them, the best one wins.

Readers may have other tokenizers and read other things (their own ports of one latent, or text):
likelihoods are compared by character, since a token of one reader is none of the other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.generation import DecodingConfig


@dataclass(frozen=True)
class JointConfig:
    """Which answers are proposed.

    Args:
        candidates: of every reader: the greedy answer, and others whose first token is drawn.
        temperature: of that draw.
        seed: of that draw.
    """

    candidates: int = 1
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, candidates=self.candidates)
        if self.candidates > 1 and not self.temperature > 0:
            raise ConfigError(f"temperature: expected above 0, got {self.temperature:g}")


@dataclass(frozen=True)
class JointAnswer:
    """The answer that all readers together like best.

    Attributes:
        text: empty where no reader proposed anything else.
        scores: every candidate's sum over readers of nats a character, best first.
        by_reader: the chosen one's nats a character under each reader.
        proposers: which readers proposed it.
    """

    text: str
    scores: dict[str, float]
    by_reader: tuple[float, ...]
    proposers: tuple[int, ...]


def joint_answers(
    prompts: Sequence[Prompts],
    decoding: DecodingConfig | None = None,
    config: JointConfig | None = None,
) -> list[JointAnswer]:
    """Answer b examples with several readers.

    A candidate's score is the sum over readers of its log-likelihood over its characters. Empty
    candidates have no likelihood and never win against others; of equal ones the first proposed
    wins.

    Args:
        prompts: one for each reader, at least two, of the same b examples.
        decoding: of the candidates.
        config: how many.

    Raises:
        ConfigError: fewer than two readers, or other numbers of examples.
    """
    config = config or JointConfig()
    counts = {len(each.lengths) for each in prompts}
    if len(prompts) < 2 or len(counts) > 1:
        raise ConfigError(
            f"joint: expected at least 2 readers of as many examples, got {len(prompts)} of "
            f"{sorted(counts)}"
        )
    settings = _decodings(decoding or DecodingConfig(), config)
    # proposed[example]: candidate -> its proposers, in order of proposal.
    proposed: list[dict[str, list[int]]] = [{} for _ in range(counts.pop())]
    for number, each in enumerate(prompts):
        for setting in settings:
            for found, text in zip(proposed, each.write(setting).texts, strict=True):
                if text:
                    by = found.setdefault(text, [])
                    by += [number] * (number not in by)
    likelihoods = [_by_character(each, [list(found) for found in proposed]) for each in prompts]
    answers = []
    for index, found in enumerate(proposed):
        if not found:
            answers.append(JointAnswer("", {}, (), ()))
            continue
        sums = {text: sum(table[index][text] for table in likelihoods) for text in found}
        ranked = dict(sorted(sums.items(), key=lambda item: -item[1]))
        best = next(iter(ranked))
        by_reader = tuple(table[index][best] for table in likelihoods)
        answers.append(JointAnswer(best, ranked, by_reader, tuple(found[best])))
    return answers


def _decodings(decoding: DecodingConfig, config: JointConfig) -> list[DecodingConfig]:
    """The greedy one, then those that draw."""
    drawn = [
        replace(decoding, first_token_temperature=config.temperature, seed=config.seed + number)
        for number in range(1, config.candidates)
    ]
    return [replace(decoding, first_token_temperature=0.0), *drawn]


def _by_character(prompts: Prompts, candidates: list[list[str]]) -> list[dict[str, float]]:
    """Nats a character of every candidate of every example, under one reader.

    Every example has one candidate a round; one with fewer repeats its last, and one with none
    scores an end token that nobody reads.
    """
    reader = prompts.reader
    tables: list[dict[str, float]] = [{} for _ in candidates]
    for place in range(max(map(len, candidates))):
        texts = [each[min(place, len(each) - 1)] if each else "" for each in candidates]
        ids = [reader.answer_tokens(t, end=False) if t else [reader.end] for t in texts]
        scored = prompts.score(ids)
        sums = torch.zeros(len(ids), device=scored.row.device)
        sums = sums.index_add(0, scored.row, -scored.nll)
        for table, text, total in zip(tables, texts, sums.tolist(), strict=True):
            table[text] = total / max(1, len(text))
    return tables
