"""What discrete bottlenecks share: tokens of the latent, and a prior over their codes."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError
from llgbm.generators.vae.bottlenecks.base import Bottleneck
from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.heads import LatentHead
from llgbm.generators.vae.latent import Latent, LatentLayout
from llgbm.generators.vae.priors.base import Prior

HIDDEN = 256


class DiscreteBottleneck(Bottleneck):
    """The latent as tokens of `code_dim` numbers, each replaced by entries of a codebook.

    A few dozen adapters cannot fill a codebook, their layers can: with a hierarchical latent every
    layer's code is a token or several. Codes are told from a condition by a classifier a place,
    which stands in for the prior.

    Args:
        layout: of the latent.
        width: of the features.
        code_dim: numbers of a token.
        codebook_size: entries of each codebook.
        places: codes of a token.
        condition_dim: width of the condition.

    Raises:
        SettingError: code_dim does not divide the parts of the latent.
    """

    def __init__(
        self,
        layout: LatentLayout,
        width: int,
        code_dim: int,
        codebook_size: int,
        places: int,
        condition_dim: int,
    ) -> None:
        super().__init__(layout)
        if layout.global_dim % code_dim or layout.layer_dim % code_dim:
            raise SettingError(
                f"code_dim: expected a divisor of the latent's parts ({layout.global_dim} and "
                f"{layout.layer_dim}), got {code_dim}"
            )
        self.code_dim, self.codebook_size, self.places = code_dim, codebook_size, places
        self.tokens = layout.size // code_dim
        self.mu = LatentHead(layout, width)
        self.told = nn.Linear(condition_dim, HIDDEN)
        self.classify = nn.Linear(HIDDEN, self.tokens * places * codebook_size)

    @abstractmethod
    def quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Quantize tokens [b, tokens, code_dim].

        Returns:
            The same shape with gradients passed on, codes [b, tokens, places] int64 or None where
            tokens still pass as they are, and losses.
        """

    @abstractmethod
    def entries(self, codes: Tensor) -> Tensor:
        """Return [b, tokens, code_dim] of codes [b, tokens, places]."""

    @abstractmethod
    def tables(self) -> Tensor:
        """Return entries [places, codebook_size, code_dim] whose sum over places is a token."""

    def logits(self, condition: Tensor) -> Tensor:
        """What a condition says of the codes, [b, tokens, places, codebook_size]."""
        said = self.classify(F.gelu(self.told(condition)))
        return said.unflatten(1, (self.tokens, self.places, self.codebook_size))

    def forward(
        self, features: Features, condition: Tensor, prior: Prior, noise: Tensor | None = None
    ) -> Latent:
        """See Bottleneck; neither prior nor noise is read."""
        mu = self.mu(features)
        quantized, codes, losses = self.quantize(mu.unflatten(1, (self.tokens, self.code_dim)))
        z = quantized.flatten(1)
        if codes is None:
            return Latent(z, mu, losses=losses)
        told = F.cross_entropy(self.logits(condition.detach()).flatten(0, 2), codes.flatten())
        return Latent(z, mu, codes=codes.flatten(1), losses={**losses, "code_prior": told})

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Return latents [b, size] of codes [b, tokens * places] of whole numbers.

        Raises:
            ValueError: another number of codes, no whole numbers, or codes out of range.
        """
        expected = self.tokens * self.places
        if codes.shape[-1] != expected:
            raise ValueError(f"codes: expected {expected}, got {codes.shape[-1]}")
        if codes.is_floating_point():
            raise ValueError(f"codes: expected whole numbers, got {codes.dtype}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise ValueError(
                f"codes: expected from 0 to {self.codebook_size - 1}, got from {int(codes.min())} "
                f"to {int(codes.max())}"
            )
        return self.entries(codes.unflatten(1, (self.tokens, self.places))).flatten(1)

    def centre(self, condition: Tensor, prior: Prior) -> Tensor:
        """See Bottleneck: the codes nearest to the tokens that the condition lets expect.

        The likeliest code of every place would be a mixture of adapters: teachers of one task have
        other codes, and places are told apart from each other.
        """
        tables = self.tables()
        shares = self.logits(condition).softmax(-1)
        left = torch.einsum("btpk,pkd->btd", shares, tables)
        codes = []
        for table in tables:
            nearest = torch.cdist(left, table[None]).argmin(-1)
            codes.append(nearest)
            left = left - table[nearest]
        return self.decode_codes(torch.stack(codes, dim=-1).flatten(1))

    def sample(self, condition: Tensor, prior: Prior, generator: torch.Generator) -> Tensor:
        """See Bottleneck."""
        shares = self.logits(condition).softmax(-1).cpu()
        drawn = shares.flatten(0, 2).multinomial(1, generator=generator)
        return self.decode_codes(drawn.view(condition.shape[0], -1).to(condition.device))
