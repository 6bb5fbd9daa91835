"""What every way into a reader is, and where ways are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.poolers.base import Pooler
from llgbm.latentwire.prefix import Prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.registry import Registry

# A config's `build(width: int, reader: Reader) -> Way`, width that of the latents.
WAYS = Registry("way")


class Way(nn.Module, ABC):
    """Gives latents to a reader: as a prefix, through hooks while the block lasts, or both.

    Attributes:
        reads_embeddings: whether the adapter's vectors are used; where not, a compressor builds
            no adapter, transform or calibration, since nothing would train them (rule 12). Some
            ways set it by their config.
        slots_alike: whether it reads every slot by itself, as most poolers give them.
    """

    name: ClassVar[str]
    reads_embeddings: bool = True
    slots_alike: bool = True

    def fit(self, pooler: Pooler) -> None:
        """Take over what the pooler has fitted; most ways need nothing of it."""

    @abstractmethod
    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return what stands before the text.

        Args:
            reader: frozen.
            latents: of b texts, [b, m, z].
            embeds: [b, m, h] float32, what the adapter made of them.
        """

    @contextmanager
    def attached(self, reader: Reader, latents: Latents) -> Iterator[None]:
        """Within the block the reader is changed as this way needs; undone in any case.

        Scoring and writing run inside, encoders outside: an encoder may share the reader's
        weights. A way that only makes a prefix changes nothing.

        Raises:
            ValueError: the reader is already changed by a way.
        """
        yield


def build_way(config: Any, width: int, reader: Reader) -> Way:
    """Build the one way of a compressor (anchor rule 11: one prefix mechanism at a time).

    Args:
        config: of a registered way.
        width: z of the latents.
        reader: that reads by it.

    Raises:
        ConfigError: several ways, or what is no way's config.
    """
    if not any(type(config) is known for known in WAYS.values()):
        got = type(config).__name__
        if isinstance(config, (list, tuple, set, dict)):
            names = [getattr(each, "name", type(each).__name__) for each in config]
            got = f"{len(names)}: {', '.join(map(str, names))}"
        raise ConfigError(f"way: expected the config of one of {', '.join(WAYS)}, got {got}")
    way: Way = config.build(width, reader)
    return way
