"""DnD's conditions: the hidden states of many prompts, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError


class TokenEncoder(Protocol):
    """What gives states per token: a PretrainedTextEncoder, or a stand-in."""

    def token_states(self, texts: Sequence[str], length: int) -> Tensor:
        """Return [len(texts), length, width] float32."""
        ...


def dnd_conditions(
    prompt_sets: Sequence[Sequence[str]], encoder: TokenEncoder, prompts: int, tokens: int
) -> Tensor:
    """Encode b sets of prompts.

    Args:
        prompt_sets: b sets; the first `prompts` of each are read. Draw them with
            `sample_prompts` where a set has more.
        encoder: gives states per token.
        prompts: of a condition.
        tokens: of a prompt; shorter ones are padded, longer ones cut.

    Returns:
        [b, prompts, tokens, width] float32.

    Raises:
        SettingError: no sets, a set of too few prompts, or a length that the encoder refuses.

    Source: arXiv 2506.16406 (DnD): 128 prompts of 384 tokens at Qwen2.5-0.5B.
    """
    if not prompt_sets:
        raise SettingError("conditions: expected at least one set of prompts, got none")
    for index, texts in enumerate(prompt_sets):
        _check_enough(f"condition {index}", texts, prompts)
    # A prompt in several sets is encoded once.
    texts = list(dict.fromkeys(text for chosen in prompt_sets for text in chosen[:prompts]))
    place = {text: index for index, text in enumerate(texts)}
    states = encoder.token_states(texts, tokens)
    return torch.stack([states[[place[t] for t in chosen[:prompts]]] for chosen in prompt_sets])


def sample_prompts(
    texts: Sequence[str], prompts: int, generator: torch.Generator
) -> tuple[str, ...]:
    """Draw prompts without repetition, in random order.

    Args:
        texts: of one task.
        prompts: how many.
        generator: source of randomness, on the CPU.

    Raises:
        SettingError: fewer texts than prompts.
    """
    _check_enough("texts", texts, prompts)
    order = torch.randperm(len(texts), generator=generator)[:prompts]
    return tuple(texts[index] for index in order.tolist())


def _check_enough(where: str, texts: Sequence[str], prompts: int) -> None:
    if prompts < 1:
        raise SettingError(f"prompts: expected at least 1, got {prompts}")
    if len(texts) < prompts:
        raise SettingError(f"{where}: prompts: expected at least {prompts}, got {len(texts)}")
