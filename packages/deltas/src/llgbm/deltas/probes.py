"""ProbeSet: the texts on which the behaviour of an adapter is read off."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.probe_texts import DOMAIN_PROBES, GENERIC_PREFIXES, GENERIC_SUFFIX

# Sizes of the generic set: the five of Delta Activations, then with more phrasings of ours.
GENERIC_COUNTS = (5, 10, 20)
DOMAINS = tuple(DOMAIN_PROBES)


@dataclass(frozen=True)
class TokenizedProbes:
    """Right-padded token ids of a probe set.

    Attributes:
        input_ids: [p, t] int64; padding stands on the right, where causal attention
            never lets a real token see it.
        lengths: [p] int64, real tokens of each probe.
        fingerprint: of the texts and the policy.
        name: for people.
    """

    input_ids: Tensor
    lengths: Tensor
    fingerprint: str
    name: str = "custom"


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
        """Tokenize each text alone, without chat template, truncated on the right.

        Warns where a text is cut.
        """
        whole = [tokenizer(text)["input_ids"] for text in self.texts]
        cut = [index for index, row in enumerate(whole) if len(row) > self.max_tokens]
        if cut:
            warnings.warn(
                f"probes {self.name}: {len(cut)} of {len(whole)} cut to {self.max_tokens} tokens, "
                f"the first at {cut[0]} from {len(whole[cut[0]])}",
                stacklevel=2,
            )
        ids = [row[: self.max_tokens] for row in whole]
        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, tokens in zip(padded, ids, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return TokenizedProbes(padded, lengths, self.fingerprint, self.name)


def create_generic_probes(count: int = 5) -> ProbeSet:
    """Return generic instruction probes: one template under different instruction prefixes.

    Args:
        count: 5 (those of Delta Activations), 10 or 20; a smaller set opens a larger one.

    Raises:
        SettingError: another count.
    """
    if count not in GENERIC_COUNTS:
        raise SettingError(f"count: expected one of {GENERIC_COUNTS} generic probes, got {count}")
    texts = tuple(prefix + GENERIC_SUFFIX for prefix in GENERIC_PREFIXES[:count])
    return ProbeSet(texts, name="generic" if count == GENERIC_COUNTS[0] else f"generic-{count}")


def create_domain_probes(domain: str) -> ProbeSet:
    """Return five probes of a domain: `math`, `code` or `commonsense`.

    Raises:
        ValueError: another domain.
    """
    if domain not in DOMAIN_PROBES:
        raise ValueError(f"domain: expected one of {DOMAINS}, got {domain!r}")
    return ProbeSet(DOMAIN_PROBES[domain], name=domain)
