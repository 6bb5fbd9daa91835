"""Errors of prompt compression that a user can cause."""

from __future__ import annotations

from llgbm.deltas.errors import LLGBMError


class ConfigError(LLGBMError):
    """A config names a part, a key or a value that does not exist or does not fit."""


class PromptError(LLGBMError):
    """A prompt, question or answer is empty, or longer than the reader's context."""


class LatentFileError(LLGBMError):
    """A latent file is truncated, corrupt, or of another version, reader or width."""
