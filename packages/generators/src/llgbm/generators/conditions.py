"""Conditions: the texts from which a generator writes an adapter, and their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llgbm.deltas.errors import SettingError
from llgbm.generators.text_encoder import EmbeddingCache, TextEncoder

ConditionKind = Literal["prompts", "prompts_with_answers", "description"]


@dataclass(frozen=True)
class Condition:
    """A set of texts; their order carries no meaning.

    Args:
        texts: at least one.
        kind: what the texts are.

    Raises:
        SettingError: no texts, an empty text or one that is not UTF-8, or an unknown kind.
    """

    texts: tuple[str, ...]
    kind: ConditionKind

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise SettingError(f"condition: texts: expected several texts, got {self.texts!r}")
        object.__setattr__(self, "texts", tuple(self.texts))
        if self.kind not in get_args(ConditionKind):
            expected = get_args(ConditionKind)
            raise SettingError(f"kind: expected one of {expected}, got {self.kind!r}")
        if not self.texts:
            raise SettingError("condition: texts: expected at least one, got none")
        for place, text in enumerate(self.texts):
            if not isinstance(text, str):
                raise SettingError(f"condition: texts: expected texts, got {text!r} at {place}")
            if not text.strip():
                raise SettingError(f"condition: texts: expected no empty text, got one at {place}")
            # A command line's bytes that are no UTF-8 arrive as halves of surrogate pairs.
            if text != text.encode("utf-8", "ignore").decode("utf-8"):
                raise SettingError(f"condition: texts: expected UTF-8, got {text!r} at {place}")


def answered(prompt: str, answer: str) -> str:
    """Join a prompt and its answer, with a space unless one of them brings white space."""
    if prompt[-1:].isspace() or answer[:1].isspace():
        return prompt + answer
    return f"{prompt} {answer}"


def condition_from_prompts(prompts: Sequence[str]) -> Condition:
    """Condition on prompts alone.

    Raises:
        ValueError: no prompts or an empty one.
    """
    return Condition(tuple(prompts), "prompts")


def condition_from_answers(prompts: Sequence[str], answers: Sequence[str]) -> Condition:
    """Condition on prompts, each with its answer.

    Raises:
        ValueError: none, or lists of unequal length.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"answers: expected {len(prompts)} as prompts, got {len(answers)}")
    texts = tuple(answered(p, a) for p, a in zip(prompts, answers, strict=True))
    return Condition(texts, "prompts_with_answers")


def condition_from_description(description: str) -> Condition:
    """Condition on one description of what the adapter is for.

    Raises:
        ValueError: an empty description.
    """
    return Condition((description,), "description")


@dataclass(frozen=True)
class ConditionBatch:
    """Embeddings of b conditions, padded to the largest.

    Args:
        embeddings: [b, k, embedding_dim] float32, zero at padding.
        mask: [b, k] bool, true at texts; at least one a condition.

    Raises:
        ValueError: shapes that do not fit, or a condition without texts.
    """

    embeddings: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.embeddings.dim() != 3 or self.mask.shape != self.embeddings.shape[:2]:
            raise ValueError(
                "ConditionBatch: expected embeddings [b, k, dim] and mask [b, k], got "
                f"{tuple(self.embeddings.shape)} and {tuple(self.mask.shape)}"
            )
        # Only where it costs no wait for a device: batches are built on the CPU.
        if self.mask.device.type == "cpu" and not bool(self.mask.any(dim=1).all()):
            raise ValueError("ConditionBatch: mask: expected a text in every condition, got none")

    @classmethod
    def of(cls, embeddings: Sequence[Tensor]) -> ConditionBatch:
        """Pad the embeddings [k_i, dim] of each condition into one batch."""
        lengths = torch.tensor([len(rows) for rows in embeddings])
        padded = pad_sequence(list(embeddings), batch_first=True)
        return cls(padded, torch.arange(padded.shape[1])[None] < lengths[:, None])

    def __len__(self) -> int:
        return self.mask.shape[0]

    def to(self, device: torch.device | str) -> ConditionBatch:
        """Move both tensors."""
        return ConditionBatch(self.embeddings.to(device), self.mask.to(device))

    def mean(self) -> Tensor:
        """Return the mean embedding of each condition's texts, [b, dim]."""
        mask = self.mask[..., None]
        return (self.embeddings * mask).sum(1) / mask.sum(1)

    def select(self, indices: Sequence[int]) -> ConditionBatch:
        """Return the conditions at `indices`, in that order."""
        rows = list(indices)
        return ConditionBatch(self.embeddings[rows], self.mask[rows])


def embed_conditions(
    conditions: Sequence[Condition],
    encoder: TextEncoder,
    cache: EmbeddingCache | None = None,
) -> ConditionBatch:
    """Embed every text once and batch the conditions.

    Args:
        conditions: b of them.
        encoder: embeds what is missing.
        cache: where embeddings are kept; nothing is kept where None.

    Raises:
        ValueError: no conditions.
        CacheError: a damaged cache file.
    """
    if not conditions:
        raise ValueError("embed_conditions: expected at least one condition, got none")
    texts = list(dict.fromkeys(text for condition in conditions for text in condition.texts))
    embeddings = encoder.encode(texts) if cache is None else cache.encode(texts, encoder)
    place = {text: index for index, text in enumerate(texts)}
    return ConditionBatch.of(
        [embeddings[[place[text] for text in condition.texts]] for condition in conditions]
    )
