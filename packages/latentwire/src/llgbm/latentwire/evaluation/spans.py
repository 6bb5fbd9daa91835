"""Spans of a text that may answer a question: short runs of words that look like noun phrases."""

from __future__ import annotations

import re

# Words that answers of few words hardly begin or end with.
_FUNCTION_WORDS = re.compile(
    "a|an|the|this|that|these|those|its|his|her|their|our|my|your|it|he|she|they|we|i|you"
    "|who|whom|which|what|when|where|why|how"
    "|of|in|on|at|by|for|from|to|with|without|into|onto|over|under|between|among|through|during"
    "|before|after|since|until|as|than|and|or|but|nor|so|yet|if|because|while|although|though"
    "|is|are|was|were|be|been|being|am|has|have|had|having|do|does|did"
    "|will|would|can|could|may|might|must|shall|should"
    "|not|no|also|only|very|more|most|such|there|then|thus|however|both|either|neither|each|every",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[.,;:!?)\]\"”]$")
_EDGES = "()[]{}.,;:!?\"'“”‘’"


def candidate_spans(text: str, words: int, limit: int) -> list[str]:
    """Spans of at most so many words; none crosses a punctuation mark.

    A span neither begins nor ends with a function word. Those with a digit or a capital letter
    that no sentence begins with come first (names, dates and numbers are what is asked for), then
    shorter ones, then in order of the text; `limit` cuts the rest off.

    Args:
        text: that spans are taken from.
        words: of a span, at most.
        limit: spans, at most.
    """
    pieces = text.split()
    telling = [
        any(letter.isdigit() for letter in piece)
        or (piece.strip(_EDGES)[:1].isupper() and not _starts_sentence(pieces, place))
        for place, piece in enumerate(pieces)
    ]
    found: dict[str, tuple[bool, int, int]] = {}
    for start in range(len(pieces)):
        for end in range(start + 1, min(start + words, len(pieces)) + 1):
            span = " ".join(pieces[start:end]).strip(_EDGES)
            if span and not _function(pieces[start]) and not _function(pieces[end - 1]):
                found.setdefault(span, (not any(telling[start:end]), end - start, start))
            if _BREAK.search(pieces[end - 1]):
                break
    return sorted(found, key=found.__getitem__)[:limit]


def _starts_sentence(pieces: list[str], place: int) -> bool:
    return place == 0 or pieces[place - 1].rstrip("\"'”)")[-1:] in (".", "!", "?")


def _function(piece: str) -> bool:
    return _FUNCTION_WORDS.fullmatch(piece.strip(_EDGES)) is not None
