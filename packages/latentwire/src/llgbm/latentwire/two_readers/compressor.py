"""A compressor whose latents two frozen readers read, each by a port of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from llgbm.latentwire.adapters.base import ADAPTERS
from llgbm.latentwire.adapters.linear import LinearAdapter, LinearAdapterConfig
from llgbm.latentwire.bottlenecks.base import Bottleneck
from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration, NoCalibrationConfig
from llgbm.latentwire.compressor import Compressor, CompressorConfig, Port
from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.poolers.base import Pooler
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.refiners.base import Refiner
from llgbm.latentwire.transforms.base import TRANSFORMS, NoTransformConfig
from llgbm.latentwire.two_readers.bridge import fit_bridge
from llgbm.latentwire.two_readers.layout import FIRST, READERS, SECOND, SHARED, SlotLayout
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.embeddings import EmbeddingsWayConfig


@dataclass(frozen=True)
class SecondPortConfig:
    """How the second reader reads.

    Args:
        adapter: latents to its width.
        transform: brings vectors nearer to its embeddings.
        calibration: their scale.
        way: how it is given them.
        bridge: start its linear adapter as the map from the first reader's embeddings to its own
            that fits best over what both vocabularies hold; for latents that begin as the first
            reader's embeddings.
    """

    adapter: Any = field(default_factory=LinearAdapterConfig, metadata={"registry": ADAPTERS})
    transform: Any = field(default_factory=NoTransformConfig, metadata={"registry": TRANSFORMS})
    calibration: Any = field(
        default_factory=NoCalibrationConfig, metadata={"registry": CALIBRATIONS}
    )
    way: Any = field(default_factory=EmbeddingsWayConfig, metadata={"registry": WAYS})
    bridge: bool = True


@dataclass(frozen=True)
class SharedCompressorConfig(CompressorConfig):
    """A compressor's parts; adapter, transform, calibration and way are the first reader's.

    Args:
        layout: which slots are shared.
        second: the second reader's port.
    """

    layout: SlotLayout = field(default_factory=SlotLayout)
    second: SecondPortConfig = field(default_factory=SecondPortConfig)

    def of(self, name: str) -> CompressorConfig:
        """The config of a compressor that one reader alone would have."""
        own = self if name == FIRST else self.second
        return CompressorConfig(
            slots=self.slots,
            encoder=self.encoder,
            pooler=self.pooler,
            refiner=self.refiner,
            bottleneck=self.bottleneck,
            adapter=own.adapter,
            transform=own.transform,
            calibration=own.calibration,
            way=own.way,
        )


class SharedCompressor(nn.Module):
    """Texts to [shared | first's own | second's own] slots, and one port a reader.

    There is one encoder; each part of the slots has a pooler of its own, which divides the whole
    text among that part's slots: every part speaks of all of the text.

    Args:
        config: parts.
        first: reader whose tokens number the slots, and which encoder and poolers are made for.
        second: the other one, of any tokenizer and width.
        seed: of every part's start.

    Raises:
        ConfigError: readers on two devices, or a bridge where there is none.
    """

    def __init__(
        self, config: SharedCompressorConfig, first: Reader, second: Reader, seed: int = 0
    ) -> None:
        super().__init__()
        if first.device != second.device:
            raise ConfigError(
                f"readers: expected both on one device, got {first.device} and {second.device}"
            )
        self.config = config
        self.readers: Mapping[str, Reader] = {FIRST: first, SECOND: second}
        slices = (SHARED, *READERS) if config.layout.private else (SHARED,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder: Encoder = config.encoder.build(first)
            self.pooler = nn.ModuleDict(
                {name: config.pooler.build(self.encoder, first, config.slots) for name in slices}
            )
            width = cast(Pooler, self.pooler[SHARED]).width
            self.refiner: Refiner = config.refiner.build(width)
            self.port = nn.ModuleDict(
                {name: Port(config.of(name), width, each) for name, each in self.readers.items()}
            )
            self.bottleneck: Bottleneck = config.bottleneck.build(width, first)
        parts = [*self.pooler.values(), *(cast(Port, each).way for each in self.port.values())]
        if not all(cast(Pooler | Way, part).slots_alike for part in parts):
            raise ConfigError(
                "compressor: expected slots that say something alone, got pooler or way heads, "
                "whose slots two readers cannot share"
            )
        if config.second.bridge:
            self._bridged()
        self.to(first.device)

    @property
    def width(self) -> int:
        """z of the latents."""
        return cast(Pooler, self.pooler[SHARED]).width

    def counts(self, texts: Sequence[str], ratio: float | None = None) -> Tensor:
        """All slots [b] of every text, by the first reader's tokens; see `Compressor.counts`."""
        reader, slots = self.readers[FIRST], self.config.slots
        tokens = torch.tensor([max(1, len(reader.tokens(text))) for text in texts])
        if ratio is not None:
            tokens = tokens.clamp(max=int(slots.largest * ratio))
            slots = replace(slots, ratio=ratio, fixed=0)
        return slots.counts(tokens).to(reader.device)

    def encode(self, texts: Sequence[str], counts: Tensor | None = None) -> Latents:
        """All slots [b, m, z] of b texts, shared and private: what goes over the wire.

        Args:
            texts: to compress.
            counts: [b] int64, slots of every text; its own number where None.
        """
        counts = self.counts(texts) if counts is None else counts
        shared, own = self.config.layout.parts(counts)
        states = self.encoder(texts)
        private = {
            # A text too short for private slots is pooled to one, which is then left out.
            name: self.pooler[name](states, own.clamp(min=1))
            for name in READERS
            if bool(own.any())
        }
        pooled = self.config.layout.joined(self.pooler[SHARED](states, shared), private, own)
        return self.bottleneck(self.refiner(pooled))

    def encode_uncompressed(self, texts: Sequence[str], ratio: float = 1.0) -> Latents:
        """Latents [b, m, z] of so many tokens a slot that both readers see whole."""
        pooled = self.pooler[SHARED](self.encoder(texts), self.counts(texts, ratio))
        return self.bottleneck(self.refiner(pooled))

    def fit(self, texts: Sequence[str]) -> None:
        """Fit what is fitted once and not trained, on all texts of the training split."""
        for pooler in self.pooler.values():
            cast(Pooler, pooler).fit(self.encoder, texts)
        self._fit_calibration(FIRST, texts)
        self.fit_second(texts)

    def fit_second(self, texts: Sequence[str]) -> None:
        """Fit what only the second reader has: its bridge and its calibration."""
        if self.config.second.bridge:
            fit_bridge(self._bridged(), self.readers[FIRST], self.readers[SECOND])
        self._fit_calibration(SECOND, texts)

    def _fit_calibration(self, name: str, texts: Sequence[str]) -> None:
        parts = cast(Port, self.port[name]).parts
        if "calibration" in parts:
            cast(Calibration, parts["calibration"]).fit(self.readers[name], texts)

    def take_over(self, single: Compressor) -> None:
        """Start from a compressor of the first reader alone; private poolers start as its own.

        Raises:
            ConfigError: other parts.
        """
        if single.config != self.config.of(FIRST):
            raise ConfigError("start_from: expected a compressor of the same parts")
        self.encoder.load_state_dict(single.encoder.state_dict())
        self.refiner.load_state_dict(single.refiner.state_dict())
        self.bottleneck.load_state_dict(single.bottleneck.state_dict())
        self.port[FIRST].load_state_dict(single.port.state_dict())
        for pooler in self.pooler.values():
            pooler.load_state_dict(single.pooler.state_dict())

    def trained(self) -> dict[str, nn.Parameter]:
        """Every parameter that training moves, by name."""
        return {name: each for name, each in self.named_parameters() if each.requires_grad}

    def _bridged(self) -> LinearAdapter:
        """The second reader's adapter, where it can be started as a bridge.

        Raises:
            ConfigError: it is not linear, or latents are not as wide as the first reader.
        """
        adapter = dict(cast(Port, self.port[SECOND]).parts.items()).get("adapter")
        if not isinstance(adapter, LinearAdapter) or self.width != self.readers[FIRST].width:
            kind = self.config.second.adapter.name if adapter is not None else "none"
            raise ConfigError(
                "second.bridge: expected a linear adapter and latents of width "
                f"{self.readers[FIRST].width}, got {kind} and {self.width}: "
                "set second.bridge=false"
            )
        return adapter
