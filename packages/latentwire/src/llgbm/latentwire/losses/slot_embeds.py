"""What terms on embeddings share: the vectors that the reader reads, and a check that it does."""

from __future__ import annotations

from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.step import Step


def require_embeddings(term: str, compressor: Compressor) -> None:
    """Refuse a term on embeddings where the way in makes none.

    Raises:
        ConfigError: the compressor's way does not read embeddings.
    """
    if not compressor.port.way.reads_embeddings:
        raise ConfigError(
            f"{term}: expected a way in that reads embeddings, got {compressor.config.way.name!r}"
        )


def slot_embeds(step: Step) -> tuple[Tensor, Tensor]:
    """Vectors [b, m, h] float32 of all slots, none dropped, and their mask [b, m]."""
    embeds, mask = step.whole_embeds, step.whole_latents.mask
    assert embeds is not None, "require_embeddings was called when the term was built"
    most = int(mask.sum(1).max())
    return embeds[:, :most], mask[:, :most]
