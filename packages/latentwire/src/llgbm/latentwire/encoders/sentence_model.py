"""A frozen sentence transformer: states of every token, however long the text, and one embedding.

A text longer than the model reads is read in chunks that follow each other, so that no token is
left out; what stands in one chunk does not know the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from llgbm.deltas.errors import ModelError
from llgbm.deltas.packaged import minilm_folder
from llgbm.deltas.quiet import quiet_transformers
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.latents import States, slot_mask


@dataclass(frozen=True)
class _Chunks:
    """Last hidden states [c, t, d] of chunks, and masks [c, t] of what they hold."""

    hidden: Tensor
    real: Tensor
    content: Tensor
    owner: Tensor

    def rows(self, text: int, which: Tensor) -> Tensor:
        """States [n, d] of one text, in order."""
        own = self.owner == text
        return self.hidden[own][which[own]]


class SentenceModel:
    """A sentence transformer that is never trained and no part of what is saved.

    It is no `nn.Module` on purpose: a module that holds one has none of its weights in its
    `state_dict`.

    Args:
        name: a local folder or a hub id; the packaged MiniLM-L6-v2 where empty.
        device: where it runs.
        chunk: tokens of a chunk, special ones included; as many as the model reads where 0.

    Raises:
        MissingPackageError: the package with MiniLM is not installed.
        ModelError: no such model, or one whose tokenizer cannot chunk.
        ConfigError: a chunk with no room for a token, or beyond what the model reads.
    """

    def __init__(self, name: str = "", device: torch.device | str = "cpu", chunk: int = 0) -> None:
        model, self.tokenizer = _load(name)
        self.model = model.to(device).requires_grad_(False).eval()
        self.width = int(model.config.hidden_size)
        limit = int(min(self.tokenizer.model_max_length, model.config.max_position_embeddings))
        least = int(self.tokenizer.num_special_tokens_to_add()) + 1
        self.chunk = chunk or limit
        if not least <= self.chunk <= limit:
            raise ConfigError(f"encoder.chunk: expected {least} to {limit} tokens, got {chunk}")

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> States:
        """States [b, t, d] of every token of b texts; special tokens are left out.

        Raises:
            PromptError: a text without a token.
        """
        chunks = self._read(texts)
        rows = [chunks.rows(text, chunks.content) for text in range(len(texts))]
        lengths = torch.tensor([len(row) for row in rows], device=chunks.hidden.device)
        values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return States(values, slot_mask(lengths))

    @torch.no_grad()
    def embedding(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [b, d] of b texts: the mean over all tokens of all chunks, at length 1.

        Raises:
            PromptError: a text without a token.
        """
        chunks = self._read(texts)
        means = [chunks.rows(text, chunks.real).mean(0) for text in range(len(texts))]
        return normalize(torch.stack(means), dim=-1)

    def _read(self, texts: Sequence[str]) -> _Chunks:
        encoded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.chunk,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        ids, special, real = (
            torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(row) for row in rows], batch_first=True
            ).to(self.model.device)
            for rows in (
                encoded["input_ids"],
                encoded["special_tokens_mask"],
                [[1] * len(row) for row in encoded["input_ids"]],
            )
        )
        owner = torch.tensor(encoded["overflow_to_sample_mapping"], device=self.model.device)
        content = (real == 1) & (special == 0)
        for text in range(len(texts)):
            if not content[owner == text].any():
                raise PromptError(f"text {text + 1}: expected at least one token, got none")
        hidden = self.model(input_ids=ids, attention_mask=real).last_hidden_state
        return _Chunks(hidden.float(), real == 1, content, owner)


def _load(name: str) -> tuple[Any, Any]:
    """Load model and tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    source = name or str(minilm_folder())
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModel.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{source}: expected a sentence transformer, got: {reason}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: expected a fast tokenizer, which can chunk, got a slow one")
    return model, tokenizer
