"""The last step of trained poolers: an MLP to the latents' width, added to mean embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import segments
from llgbm.latentwire.reader import Reader

# What is added to mean embeddings starts small beside them.
QUIET = 0.1
# Root mean square of GELU(x) for a standard normal x.
GELU_RMS = 0.652


def latent_width(
    width: int, encoder: Encoder, reader: Reader, start_from_embeddings: bool = False
) -> int:
    """Width z of latents: as asked, or for 0 the encoder's (the reader's, if added to embeddings).

    Raises:
        ConfigError: a negative width, or one that the reader's embeddings cannot be added to.
    """
    if width < 0:
        raise ConfigError(f"pooler.width: expected 0 or more, got {width}")
    if not start_from_embeddings:
        return width or encoder.width
    if width not in (0, reader.width):
        raise ConfigError(
            f"pooler.width: expected 0 or {reader.width} with start_from_embeddings, got {width}"
        )
    return reader.width


class Head(nn.Module):
    """LayerNorm, MLP, and the mean of the reader's embeddings of the slot's segment.

    Latents as wide as the reader start at the size of its embeddings, others at size 1: that is
    what adapters expect.

    Args:
        width: d of what was pooled.
        out: z of the latents.
        hidden: width of the MLP over d.
        reader: that latents are made for.
        start_from_embeddings: add mean embeddings, which the encoder then has to give.
    """

    def __init__(
        self, width: int, out: int, hidden: float, reader: Reader, start_from_embeddings: bool
    ) -> None:
        super().__init__()
        inner = round(hidden * width)
        if inner < 1:
            raise ConfigError(f"pooler.hidden: expected at least one unit, got {hidden:g}")
        self.start_from_embeddings = start_from_embeddings
        self.norm = nn.LayerNorm(width)
        self.first, self.last = nn.Linear(width, inner), nn.Linear(inner, out)
        size = reader.embedding_rms if out == reader.width else 1.0
        size *= QUIET if start_from_embeddings else 1.0
        # Units of size 1 before the GELU, and what it leaves of them after it.
        nn.init.normal_(self.first.weight, std=width**-0.5)
        nn.init.normal_(self.last.weight, std=size / (GELU_RMS * inner**0.5))
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.last.bias)

    def forward(self, pooled: Tensor, states: States, counts: Tensor) -> Latents:
        """Latents [b, max(counts), z] of pooled vectors [b, max(counts), d]."""
        values = self.last(nn.functional.gelu(self.first(self.norm(pooled))))
        if self.start_from_embeddings:
            assert states.inputs is not None
            values = values + segments(states.lengths, counts) @ states.inputs
        mask = slot_mask(counts)
        return Latents(values * mask[..., None], mask)
