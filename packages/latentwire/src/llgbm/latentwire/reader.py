"""A frozen reader: a causal language model with its tokenizer, and what parts ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import ModelError
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.spec import device_of
from llgbm.latentwire.errors import PromptError


@dataclass(eq=False)
class Reader:
    """A frozen model that answers from text or from latents.

    Attributes:
        model: causal language model in evaluation mode; no parameter requires a gradient.
        tokenizer: its own.
        name: what it was loaded as.
    """

    model: Any
    tokenizer: Any
    name: str = "reader"
    _new_lines: dict[int, bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if any(parameter.requires_grad for parameter in self.model.parameters()):
            raise ModelError(f"{self.name}: expected a frozen reader, got parameters that train")

    @cached_property
    def config(self) -> Any:
        """Text part of the model's config."""
        return self.model.config.get_text_config()

    @property
    def width(self) -> int:
        """Hidden size h, which input embeddings have too."""
        return int(self.config.hidden_size)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(self.config.num_hidden_layers)

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.config.vocab_size)

    @property
    def kv_heads(self) -> int:
        """Key and value heads of a layer."""
        return int(self.config.num_key_value_heads)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        given = getattr(self.config, "head_dim", None)
        return int(given or self.config.hidden_size // self.config.num_attention_heads)

    @property
    def limit(self) -> int:
        """Positions that the reader was made for."""
        return int(self.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return device_of(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.model.get_input_embeddings().weight.dtype

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of its weights."""
        return base_fingerprint(self.model)

    @cached_property
    def embedding(self) -> Tensor:
        """Embeddings [vocabulary, h] as the first layer sees them (Gemma scales its table)."""
        return self.embed(torch.arange(self.vocabulary, device=self.device))

    @cached_property
    def embedding_rms(self) -> float:
        """Root mean square of its embeddings' entries."""
        return float(self.embedding.float().square().mean().sqrt())

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings [..., h] of token ids [...], in the model's dtype."""
        return self.model.get_input_embeddings()(ids)

    # Tokens of a prompt: opening + passage (or latents) + ending, then answer + end.

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """Tokens that the tokenizer puts before every text: a BOS, or nothing."""
        return tuple(self.tokenizer("")["input_ids"])

    @property
    def end(self) -> int:
        """Token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def pad(self) -> int:
        """Token that fills rows; nothing may rest on its value (it often is the end token)."""
        given = self.tokenizer.pad_token_id
        return int(self.end if given is None else given)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text that something stands before: nothing special is added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer_tokens(self, answer: str, end: bool = True) -> list[int]:
        """Token ids of ` answer`, and the end token where asked.

        Raises:
            PromptError: an empty answer.
        """
        ids = self.tokens(f" {answer.strip()}") if answer.strip() else []
        if not ids:
            raise PromptError("answer: expected at least one token, got none")
        return ids + [self.end] * end

    def holds_new_line(self, token: int) -> bool:
        """Whether a token ends a line."""
        if token not in self._new_lines:
            self._new_lines[token] = "\n" in self.tokenizer.decode([token])
        return self._new_lines[token]

    @cached_property
    def new_lines(self) -> Tensor:
        """Token ids [n] int64 that end a line."""
        held = [token for token in range(self.vocabulary) if self.holds_new_line(token)]
        return torch.tensor(held, dtype=torch.long, device=self.device)

    def text_of(self, ids: Sequence[int]) -> str:
        """First line of what token ids say, special tokens left out."""
        lines = self.tokenizer.decode(list(ids), skip_special_tokens=True).strip().splitlines()
        return lines[0].strip() if lines else ""


def shown_name(name: str) -> str:
    """A reader's name in results: of a folder elsewhere, the folder's alone."""
    elsewhere = Path(name).is_absolute() or ".." in Path(name).parts
    return Path(name).name if elsewhere else name


def load_reader(
    name: str = "smollm2-135m", dtype: torch.dtype | None = None, device: str | None = None
) -> Reader:
    """Load a frozen reader: a packaged model, a local folder (a tuned reader's too) or a hub id.

    Raises:
        ModelError: unknown or unusable; see `load_base_model`.
    """
    model, tokenizer = load_base_model(name, dtype=dtype, device=device)
    return Reader(model, tokenizer, name)
