"""From one reader's embeddings to another's, over the tokens that both vocabularies hold.

Latents that begin as means of the first reader's embeddings then begin near the second reader's
too, instead of as a random map of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llgbm.latentwire.adapters.linear import LinearAdapter
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader

# Of the mean variance of an input: directions that hardly vary are left alone.
RIDGE = 1e-2
UNREADABLE = "\ufffd"


def common_tokens(first: Reader, second: Reader) -> tuple[Tensor, Tensor]:
    """Token ids [n] int64 of both readers that stand for the same text.

    A text counts where either tokenizer makes one token of it.
    """
    # The smaller vocabulary is read out, the larger one is asked.
    small, large = sorted((first, second), key=lambda reader: len(reader.tokenizer))
    ids = [[token] for token in range(len(small.tokenizer))]
    texts = small.tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
    known = {
        text: token for token, text in enumerate(texts) if text.strip() and UNREADABLE not in text
    }
    names = list(known)
    rows = [
        reader.tokenizer(names, add_special_tokens=False)["input_ids"] for reader in (small, large)
    ]
    unknown = large.tokenizer.unk_token_id
    pairs = torch.tensor(
        [
            (own[0], other[0])
            for text, own, other in zip(names, *rows, strict=True)
            if own == [known[text]] and len(other) == 1 and other[0] != unknown
        ],
        dtype=torch.long,
    ).reshape(-1, 2)
    return (pairs[:, 0], pairs[:, 1]) if small is first else (pairs[:, 1], pairs[:, 0])


@torch.no_grad()
def fit_bridge(adapter: LinearAdapter, first: Reader, second: Reader) -> int:
    """Set an adapter to the ridge regression of the second's embeddings on the first's.

    Scaled up by what regression shrinks: outputs have the size of the second reader's embeddings
    (anchor rule 17).

    Args:
        adapter: from the first reader's width to the second's; changed in place.
        first: whose embeddings latents resemble.
        second: that reads here.

    Returns:
        Tokens that both have.

    Raises:
        ConfigError: too few tokens in common to tell anything.
    """
    mine, theirs = common_tokens(first, second)
    if len(mine) <= first.width:
        raise ConfigError(
            f"second.bridge: expected more than {first.width} tokens in common, got {len(mine)}: "
            "set second.bridge=false"
        )
    inputs = first.embed(mine.to(first.device)).double()
    outputs = second.embed(theirs.to(second.device)).double()
    means = inputs.mean(0), outputs.mean(0)
    centred = inputs - means[0]
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, centred.T @ (outputs - means[1])).T
    bias = means[1] - weight @ means[0]
    reached = inputs @ weight.T + bias
    scale = (outputs.square().mean() / reached.square().mean()).sqrt()
    adapter.linear.weight.copy_(scale * weight)
    adapter.linear.bias.copy_(scale * bias)
    return len(mine)
