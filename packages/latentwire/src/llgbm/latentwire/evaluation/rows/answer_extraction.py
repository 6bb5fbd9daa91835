"""Answer extraction: the reader chooses a span of the text instead of writing.

Candidates are spans of at most a few words (see `spans`); the reader reads the whole text with
the question and scores each candidate as the whole answer: the sum of its tokens'
log-likelihoods, with that of what ends it, a new line or the end token. It says how much of a low
F1 is the writing's fault and not the reading's. One forward a question, over the prompt and every
candidate twice behind it, packed: with 96 candidates of about three tokens some 800 tokens more
than reading the prompt; nothing is written. Where no candidate is right the row cannot be either.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llgbm.deltas.errors import require_at_least
from llgbm.deltas.log_likelihood import branch_log_likelihoods
from llgbm.deltas.packing import TokenTree, pack
from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.evaluation.spans import candidate_spans
from llgbm.latentwire.evaluation.token_prompts import TokenPrompts
from llgbm.latentwire.generation import DecodingConfig, Written
from llgbm.latentwire.reader import Reader


@ROWS.register("answer_extraction")
@dataclass(frozen=True)
class AnswerExtractionRowConfig(RowConfig):
    """The best span of the context, by the reader's likelihood of it.

    Args:
        words: of a span, at most.
        candidates: spans scored for a question, at most.
    """

    words: int = 5
    candidates: int = 96

    def __post_init__(self) -> None:
        require_at_least(1, words=self.words, candidates=self.candidates)

    def build(self, setting: Setting) -> AnswerExtractionRow:
        """Build it."""
        return AnswerExtractionRow(setting, self)


class AnswerExtractionRow(Row):
    """The whole text, and candidates out of it."""

    def __init__(self, setting: Setting, config: AnswerExtractionRowConfig) -> None:
        super().__init__(setting)
        self.config = config

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        spans = [
            candidate_spans(
                setting.examples[index].context, self.config.words, self.config.candidates
            )
            for index in indices
        ]
        return ExtractionPrompts(
            setting.reader,
            [[*setting.contexts[index], *setting.endings[index]] for index in indices],
            [len(setting.contexts[index]) for index in indices],
            spans,
        )


class ExtractionPrompts(TokenPrompts):
    """Prompts after which the reader chooses among candidates.

    Args:
        reader: that reads and chooses.
        ids: b lists of token ids of whole prompts.
        slots: tokens of each context.
        spans: candidates of each prompt.
    """

    def __init__(
        self,
        reader: Reader,
        ids: Sequence[Sequence[int]],
        slots: Sequence[int],
        spans: Sequence[Sequence[str]],
    ) -> None:
        super().__init__(reader, ids, slots)
        self.spans = spans

    @torch.no_grad()
    def write(self, decoding: DecodingConfig) -> Written:
        """The likeliest candidate of each prompt; an empty answer where there is none."""
        reader = self.reader
        begin = time.perf_counter()
        texts = []
        for prompt, spans in zip(self.ids, self.spans, strict=True):
            if not spans:
                texts.append("")
                continue
            answers = [reader.answer_tokens(span, end=False) for span in spans]
            ends = [reader.tokens("\n"), [reader.end]]
            branches = tuple((*answer, *end) for end in ends for answer in answers)
            packed = pack([[TokenTree(tuple(prompt), branches)]], reader.pad)
            sums = branch_log_likelihoods(reader.model, packed).view(len(ends), len(spans))
            texts.append(spans[int(sums.logsumexp(0).argmax())])
        tokens = [reader.tokens(f" {text}") if text else [] for text in texts]
        return Written(texts, tokens, time.perf_counter() - begin, 0.0)
