"""How large a reader's embeddings are in text, which is not how large its table is.

A table counts every token once; text is made of few tokens, used often, and those differ from the
rest in size and in mean. Calibrating to the table would change real embeddings: see the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.probes import DOMAINS, create_domain_probes, create_generic_probes
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.reader import Reader


@dataclass(frozen=True)
class TextEmbeddings:
    """Moments of the embeddings of a text's tokens.

    Attributes:
        mean: [h] float32.
        variance: [h] float32.
        rms: root mean square of all entries.
        tokens: counted.
    """

    mean: Tensor
    variance: Tensor
    rms: float
    tokens: int


def sample_texts() -> list[str]:
    """Some hundred tokens of prose, mathematics and code: the probe texts that come packaged."""
    sets = [create_generic_probes(), *(create_domain_probes(domain) for domain in DOMAINS)]
    return [text for each in sets for text in each.texts]


@torch.no_grad()
def text_embeddings(reader: Reader, texts: Sequence[str]) -> TextEmbeddings:
    """Measure embeddings as they occur in texts, each as often as its token does.

    Raises:
        PromptError: no tokens at all.
    """
    uses = torch.zeros(reader.vocabulary, dtype=torch.long)
    for text in texts:
        ids = torch.tensor(reader.tokens(text), dtype=torch.long)
        uses += torch.bincount(ids, minlength=reader.vocabulary)
    used = uses.nonzero()[:, 0]
    if not len(used):
        raise PromptError("texts: expected at least one token, got none")
    rows = reader.embed(used.to(reader.device)).double()
    weights = (uses[used].double() / uses.sum()).to(rows.device)
    mean = weights @ rows
    variance = weights @ (rows - mean).square()
    rms = float((weights @ rows.square()).mean().sqrt())
    return TextEmbeddings(mean.float(), variance.float(), rms, int(uses.sum()))
