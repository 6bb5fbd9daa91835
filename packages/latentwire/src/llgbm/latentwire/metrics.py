"""SQuAD's official exact match and F1, and signs of collapse (anchor rules 19 and 22)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower-case, strip punctuation, drop a/an/the, squeeze white space."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction equals one of the answers after normalisation, else 0."""
    return float(any(normalised(prediction) == normalised(answer) for answer in answers))


def f1_score(prediction: str, answers: Sequence[str]) -> float:
    """Largest word F1 over the answers, 0 to 1; an empty prediction scores 0."""
    return max(_f1(normalised(prediction).split(), normalised(a).split()) for a in answers)


def _f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    if not predicted or not gold:
        # The official script: no answer counts only where none is right.
        return float(predicted == gold)
    common = sum((Counter(predicted) & Counter(gold)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def empty_rate(predictions: Sequence[str]) -> float:
    """Share of predictions without a word."""
    return sum(not text.strip() for text in predictions) / len(predictions)


def distinct_rate(predictions: Sequence[str]) -> float:
    """Distinct predictions over all: near 0 after a collapse."""
    return len({normalised(text) for text in predictions}) / len(predictions)


def repetition_rate(predictions: Sequence[str], size: int = 3) -> float:
    """Share of predictions that repeat one of their own word n-grams of `size`."""
    repeated = 0
    for text in predictions:
        words = text.split()
        grams = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
        repeated += any(count > 1 for count in grams.values())
    return repeated / len(predictions)
