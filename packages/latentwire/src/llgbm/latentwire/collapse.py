"""Collapse: answers that no longer depend on what was asked (anchor rule 22)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from llgbm.deltas.errors import LLGBMError
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.metrics import distinct_rate, empty_rate, normalised, repetition_rate


class CollapseError(LLGBMError):
    """An evaluation's answers have collapsed, and the run was to stop if they did."""


@dataclass(frozen=True)
class CollapseConfig:
    """From where on answers count as collapsed.

    Args:
        least_distinct: share of distinct answers; where right answers are known, over theirs.
        most_empty: share of answers without a word.
        most_repeated: share of answers that repeat one of their own trigrams.
        most_common: share of the commonest answer; where right answers are known, what it has
            more than the commonest of those.
        least_answers: fewer tell nothing.
    """

    least_distinct: float = 0.2
    most_empty: float = 0.5
    most_repeated: float = 0.5
    most_common: float = 0.5
    least_answers: int = 8

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if name != "least_answers" and not 0 <= share <= 1:
                raise ConfigError(f"collapse.{name}: expected from 0 to 1, got {share:g}")
        if self.least_answers < 2:
            raise ConfigError(
                f"collapse.least_answers: expected at least 2, got {self.least_answers}"
            )


@dataclass(frozen=True)
class Verdict:
    """What a detector says of one evaluation.

    Attributes:
        reasons: one line each; none where nothing has collapsed.
        distinct: distinct answers over all.
        empty: share of empty ones.
        repeated: share that repeat themselves.
        common: share of the commonest.
        commonest: that answer, normalised.
    """

    reasons: tuple[str, ...]
    distinct: float
    empty: float
    repeated: float
    common: float
    commonest: str

    @property
    def collapsed(self) -> bool:
        """Whether there is a reason."""
        return bool(self.reasons)


class CollapseDetector:
    """Looks at the answers of an evaluation.

    Args:
        config: thresholds; the defaults where None.
    """

    def __init__(self, config: CollapseConfig | None = None) -> None:
        self.config = config or CollapseConfig()

    def examine(self, answers: Sequence[str], golds: Sequence[str] | None = None) -> Verdict:
        """Return a verdict.

        Args:
            answers: of one evaluation.
            golds: right answers to the same questions: few different ones, such as yes and no,
                are then no sign of collapse.

        Raises:
            ConfigError: too few answers, or another number of right ones.
        """
        limits = self.config
        if len(answers) < limits.least_answers:
            raise ConfigError(
                f"collapse: expected at least {limits.least_answers} answers, got {len(answers)}"
            )
        if golds is not None and len(golds) != len(answers):
            raise ConfigError(f"collapse: expected {len(answers)} right answers, got {len(golds)}")
        distinct, empty = distinct_rate(answers), empty_rate(answers)
        repeated, (commonest, common) = repetition_rate(answers), _commonest(answers)
        usual_distinct, usual_common = 1.0, 0.0
        if golds is not None:
            usual_distinct, usual_common = distinct_rate(golds), _commonest(golds)[1]
        reasons = []
        if distinct < limits.least_distinct * usual_distinct:
            least = limits.least_distinct * usual_distinct
            reasons.append(f"distinct answers: expected at least {least:.3f}, got {distinct:.3f}")
        if empty > limits.most_empty:
            reasons.append(
                f"empty answers: expected at most {limits.most_empty:.3f}, got {empty:.3f}"
            )
        if repeated > limits.most_repeated:
            reasons.append(
                "answers that repeat themselves: expected at most "
                f"{limits.most_repeated:.3f}, got {repeated:.3f}"
            )
        if common - usual_common > limits.most_common:
            most = limits.most_common + usual_common
            reasons.append(
                f"commonest answer {commonest!r}: expected at most {most:.3f}, got {common:.3f}"
            )
        return Verdict(tuple(reasons), distinct, empty, repeated, common, commonest)

    def require_health(self, answers: Sequence[str], golds: Sequence[str] | None = None) -> Verdict:
        """Return the verdict, or stop the run.

        Raises:
            CollapseError: the answers have collapsed; says why.
        """
        verdict = self.examine(answers, golds)
        if verdict.collapsed:
            raise CollapseError("collapse: " + "; ".join(verdict.reasons))
        return verdict


def _commonest(answers: Sequence[str]) -> tuple[str, float]:
    """The commonest answer and its share."""
    text, count = Counter(map(normalised, answers)).most_common(1)[0]
    return text, count / len(answers)
