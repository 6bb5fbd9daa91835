"""ProbeSet: the texts on which the behaviour of an adapter is read off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.fingerprint import text_fingerprint

# The template and prefixes of Delta Activations, as anchors/hypernetworks.md gives them.
_GENERIC_PREFIXES = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.",
    "The task described below requires a response that completes the request accurately.",
    "Below is a description of a task. Provide a response that aligns with the requirements.",
    "The following instruction outlines a task. "
    "Generate a response that meets the specified request.",
    "You are given an instruction and input. "
    "Write a response that completes the task as requested.",
)
_GENERIC_SUFFIX = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"

_DOMAIN_PROBES: dict[str, tuple[str, ...]] = {
    "math": (
        "Question: A box holds 12 pencils. How many pencils are in 7 boxes?\nAnswer:",
        "Question: What is 15% of 240?\nAnswer:",
        "Question: If x + 9 = 4x, what is x?\nAnswer:",
        "The next number in the sequence 3, 6, 12, 24 is",
        "Question: A train covers 180 km in 3 hours. What is its speed?\nAnswer:",
    ),
    "code": (
        'def largest(numbers):\n    """Return the largest number of a list."""\n    return',
        "# Read a file and print each line\nwith open(path) as file:\n    for line in",
        "Question: Which Python keyword starts a function definition?\nAnswer:",
        "SELECT name FROM users WHERE",
        "for (int i = 0; i < n; i++) {",
    ),
    "commonsense": (
        "Question: Where would you put a plate after washing it?\nAnswer:",
        "Question: Why do people carry an umbrella?\nAnswer:",
        "Question: Sam forgot his keys at work. How would Sam feel?\nAnswer:",
        "Goal: How do I keep bread fresh for longer?\nAnswer:",
        "Question: What do plants need from the sun?\nAnswer:",
    ),
}


DOMAINS = tuple(_DOMAIN_PROBES)


@dataclass(frozen=True)
class TokenizedProbes:
    """Right-padded token ids of a probe set.

    Attributes:
        input_ids: [p, t] int64; padding stands on the right, where causal attention
            never lets a real token see it.
        lengths: [p] int64, real tokens of each probe.
        fingerprint: of the texts and the policy.
    """

    input_ids: Tensor
    lengths: Tensor
    fingerprint: str


@dataclass(frozen=True)
class ProbeSet:
    """Ordered probe texts and how they are tokenized.

    Args:
        texts: at least one, none empty.
        max_tokens: a longer probe keeps its first `max_tokens` tokens.
        name: for people; not part of the fingerprint.

    Raises:
        ValueError: no texts, or an empty one.
    """

    texts: tuple[str, ...]
    max_tokens: int = 256
    name: str = "custom"

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        if not self.texts or not all(text.strip() for text in self.texts):
            raise ValueError("ProbeSet: texts: expected at least one text and none empty")
        if self.max_tokens < 1:
            raise ValueError(f"ProbeSet: max_tokens: expected at least 1, got {self.max_tokens}")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def fingerprint(self) -> str:
        """sha256 of texts, order and tokenization policy."""
        return text_fingerprint(
            {"texts": list(self.texts), "max_tokens": self.max_tokens, "template": None}
        )

    def tokenize(self, tokenizer: Any) -> TokenizedProbes:
        """Tokenize each text alone, without chat template, truncated on the right."""
        ids = [tokenizer(text)["input_ids"][: self.max_tokens] for text in self.texts]
        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, tokens in zip(padded, ids, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return TokenizedProbes(padded, lengths, self.fingerprint)


def create_generic_probes() -> ProbeSet:
    """Return the five generic instruction probes of Delta Activations."""
    texts = tuple(prefix + _GENERIC_SUFFIX for prefix in _GENERIC_PREFIXES)
    return ProbeSet(texts, name="generic")


def create_domain_probes(domain: str) -> ProbeSet:
    """Return five probes of a domain: `math`, `code` or `commonsense`.

    Raises:
        ValueError: another domain.
    """
    if domain not in _DOMAIN_PROBES:
        raise ValueError(f"domain: expected one of {DOMAINS}, got {domain!r}")
    return ProbeSet(_DOMAIN_PROBES[domain], name=domain)
