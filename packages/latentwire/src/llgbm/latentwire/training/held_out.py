"""Scores on held-out answers, which the best step is chosen by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llgbm.latentwire.examples import Example
from llgbm.latentwire.scoring import Scored


@dataclass(frozen=True)
class HeldOutScore:
    """What a reader makes of held-out answers.

    Attributes:
        nll: nats a token, of all answers together.
        first_at_1: share of answers whose first token is the likeliest.
    """

    nll: float
    first_at_1: float


def held_out_scores(
    held_out: Sequence[Example],
    size: int,
    scored: Callable[[list[Example]], Mapping[str, Scored]],
) -> dict[str, HeldOutScore]:
    """Score held-out answers.

    Args:
        held_out: at least one example.
        size: of a batch.
        scored: predictions of a batch's answers, by reader.

    Returns:
        By reader.
    """
    nll: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    right: dict[str, int] = defaultdict(int)
    for batch in batches_of_one_kind(held_out, size):
        for name, found in scored(batch).items():
            at_first = found.step == 0
            likeliest = found.logits[at_first].argmax(-1)
            nll[name] += float(found.nll.sum())
            tokens[name] += len(found.targets)
            right[name] += int((likeliest == found.targets[at_first]).sum())
    return {
        name: HeldOutScore(nll[name] / tokens[name], right[name] / len(held_out)) for name in nll
    }


def batches_of_one_kind(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Examples in batches whose marks are alike: a prefix has a mark in all rows or in none."""
    kinds: dict[bool, list[Example]] = {False: [], True: []}
    for example in examples:
        kinds[bool(example.mark)].append(example)
    return [
        kind[start : start + size] for kind in kinds.values() for start in range(0, len(kind), size)
    ]
