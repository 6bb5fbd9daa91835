"""What a trained run makes of a text, and what each of its readers is given of that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llgbm.latentwire.bottlenecks.base import DiscreteBottleneck
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.training.files import RunFiles, load_compressor
from llgbm.latentwire.two_readers.files import has_two_readers, load_shared
from llgbm.latentwire.two_readers.view import View
from llgbm.latentwire.wire.identity import compressor_fingerprint


@dataclass(frozen=True)
class Codec:
    """A run's compressor, whether it has one reader or two.

    Attributes:
        encode: all latents [b, m, z] of b texts, as they go over the wire.
        width: z.
        bottleneck: with codes; None where latents are numbers.
        fingerprint: of the compressor.
        readers_fingerprint: of the reader, or of both together.
        ends: by reader's name, the compressor as that reader knows it, and the reader; of a run
            for one reader the name is empty.
    """

    encode: Callable[[Sequence[str]], Latents]
    width: int
    bottleneck: DiscreteBottleneck | None
    fingerprint: str
    readers_fingerprint: str
    ends: Mapping[str, tuple[Compressor, Reader]]

    @property
    def reader(self) -> Reader:
        """The first reader, whose tokens number the slots."""
        return next(iter(self.ends.values()))[1]

    def end(self, name: str = "") -> tuple[Compressor, Reader]:
        """The compressor as one reader knows it, and that reader.

        Args:
            name: `first` or `second` of two; the first where empty.

        Raises:
            ConfigError: another name, or one where there is a single reader.
        """
        if not name:
            return next(iter(self.ends.values()))
        if name not in self.ends:
            names = " or ".join(each for each in self.ends if each)
            raise ConfigError(f"reader: expected {names or 'none: this run has one'}, got {name!r}")
        return self.ends[name]

    @staticmethod
    def seen(compressor: Compressor, latents: Latents) -> Latents:
        """What a reader sees of all latents: two readers have slots of their own."""
        return compressor.seen(latents) if isinstance(compressor, View) else latents


def open_codec(run: Path) -> Codec:
    """Load what a run trained, with its reader or readers.

    Raises:
        RunError: no trained run there, a damaged one, or one of other readers.
    """
    files = RunFiles(run)
    if not has_two_readers(files):
        compressor, reader = load_compressor(run)
        return Codec(
            compressor.encode,
            compressor.width,
            _codes(compressor.bottleneck),
            compressor_fingerprint(compressor),
            reader.fingerprint,
            {"": (compressor, reader)},
        )
    shared = load_shared(run)
    together = "|".join(reader.fingerprint for reader in shared.readers.values())
    return Codec(
        shared.encode,
        shared.width,
        _codes(shared.bottleneck),
        compressor_fingerprint(shared),
        hashlib.sha256(together.encode()).hexdigest(),
        {name: (View(shared, name), reader) for name, reader in shared.readers.items()},
    )


def _codes(bottleneck: object) -> DiscreteBottleneck | None:
    return bottleneck if isinstance(bottleneck, DiscreteBottleneck) else None
