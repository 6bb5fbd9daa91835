"""A compressor: encoder and pooler that write latents, and a port by which a reader reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from llgbm.latentwire.adapters.base import ADAPTERS
from llgbm.latentwire.adapters.linear import LinearAdapterConfig
from llgbm.latentwire.bottlenecks.base import BOTTLENECKS, Bottleneck, NoBottleneckConfig
from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration, NoCalibrationConfig
from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import MARKS
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.queries import PooledQueriesConfig
from llgbm.latentwire.prefix import Prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.refiners.base import REFINERS, NoRefinerConfig, Refiner
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.transforms.base import TRANSFORMS, NoTransformConfig
from llgbm.latentwire.ways.base import WAYS, Way, build_way
from llgbm.latentwire.ways.embeddings import EmbeddingsWayConfig


@dataclass(frozen=True)
class CompressorConfig:
    """Parts of a compressor; each is a config of its registry.

    Args:
        slots: how many slots a text gets.
        encoder: reads the text.
        pooler: makes slots of what the encoder says.
        refiner: lets slots look at each other.
        bottleneck: makes latents survive the wire in few bits; the last step before it.
        adapter: latents to the reader's width.
        transform: brings vectors nearer to embeddings.
        calibration: their scale.
        way: how the reader is given them.
    """

    slots: SlotsConfig = field(default_factory=SlotsConfig)
    encoder: Any = field(default_factory=PretrainedEncoderConfig, metadata={"registry": ENCODERS})
    pooler: Any = field(default_factory=PooledQueriesConfig, metadata={"registry": POOLERS})
    refiner: Any = field(default_factory=NoRefinerConfig, metadata={"registry": REFINERS})
    bottleneck: Any = field(default_factory=NoBottleneckConfig, metadata={"registry": BOTTLENECKS})
    adapter: Any = field(default_factory=LinearAdapterConfig, metadata={"registry": ADAPTERS})
    transform: Any = field(default_factory=NoTransformConfig, metadata={"registry": TRANSFORMS})
    calibration: Any = field(
        default_factory=NoCalibrationConfig, metadata={"registry": CALIBRATIONS}
    )
    way: Any = field(default_factory=EmbeddingsWayConfig, metadata={"registry": WAYS})


class Port(nn.Module):
    """By which one reader reads latents: adapter, transform, calibration, way and marks.

    Args:
        config: of the compressor.
        width: z of the latents.
        reader: that reads here.
    """

    def __init__(self, config: CompressorConfig, width: int, reader: Reader) -> None:
        super().__init__()
        self.way: Way = build_way(config.way, width, reader)
        self.parts = nn.ModuleDict()
        if self.way.reads_embeddings:
            self.parts["adapter"] = config.adapter.build(width, reader)
            self.parts["transform"] = config.transform.build(reader)
            self.parts["calibration"] = config.calibration.build(reader)
        # What to do in pretraining: starts as a newline, so that it reads like a break.
        line = reader.embed(torch.tensor(reader.tokens("\n")[:1], device=reader.device)).float()
        self.marks = nn.ParameterDict({mark: nn.Parameter(line[0].clone()) for mark in MARKS})

    def embeds(self, latents: Latents) -> Tensor | None:
        """Vectors [b, m, h] that the reader would read as embeddings; None where it does not."""
        if not self.way.reads_embeddings:
            return None
        values: Tensor = self.parts["adapter"](latents)
        for name in ("transform", "calibration"):
            values = self.parts[name](values, latents.mask)
        return values

    def prefix(self, reader: Reader, latents: Latents) -> Prefix:
        """What stands before the text that `reader` reads."""
        return self.way.prefix(reader, latents, self.embeds(latents))

    def mark_vectors(self, marks: Sequence[str]) -> Tensor | None:
        """[b, 1, h] for examples that are all marked; None for those that are not.

        Raises:
            ValueError: some are marked and some are not: batches are of one kind.
        """
        if not any(marks):
            return None
        if not all(marks):
            raise ValueError("marks: expected all examples of a batch marked, or none")
        return torch.stack([self.marks[mark] for mark in marks])[:, None]


class Compressor(nn.Module):
    """Texts to latents, and latents to what a frozen reader is given.

    Args:
        config: parts.
        reader: that latents are made for.
        seed: of every part's start.
    """

    def __init__(self, config: CompressorConfig, reader: Reader, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self._reader = [reader]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder: Encoder = config.encoder.build(reader)
            self.pooler: Pooler = config.pooler.build(self.encoder, reader, config.slots)
            self.refiner: Refiner = config.refiner.build(self.pooler.width)
            self.port = Port(config, self.pooler.width, reader)
            if not self.pooler.slots_alike and config.refiner != NoRefinerConfig():
                raise ConfigError(
                    f"compressor: expected refiner none with pooler {config.pooler.name}, whose "
                    f"slots say nothing alone, got {config.refiner.name}"
                )
            if self.pooler.slots_alike != self.port.way.slots_alike:
                raise ConfigError(
                    "compressor: expected pooler heads and way heads together, got pooler "
                    f"{config.pooler.name} and way {config.way.name}"
                )
            self.bottleneck: Bottleneck = config.bottleneck.build(self.pooler.width, reader)
        self.to(reader.device)

    @property
    def width(self) -> int:
        """z of the latents."""
        return self.pooler.width

    def counts(self, texts: Sequence[str], ratio: float | None = None) -> Tensor:
        """Slots [b] of every text, by the reader's own tokens.

        Args:
            texts: b of them.
            ratio: instead of the config's; then no text has more than the largest number.

        Raises:
            PromptError: a text that needs more than the largest number.
        """
        reader, slots = self._reader[0], self.config.slots
        tokens = torch.tensor([max(1, len(reader.tokens(text))) for text in texts])
        if ratio is not None:
            slots = replace(slots, ratio=ratio, fixed=0)
            tokens = tokens.clamp(max=slots.longest)
        return slots.counts(tokens).to(reader.device)

    def encode(self, texts: Sequence[str], ratio: float | None = None) -> Latents:
        """Latents [b, m, z] of b texts: all that goes over the wire.

        Args:
            texts: to compress; one that stands there more than once is compressed once.
            ratio: tokens a slot, other than the config's; 1 in steps without compression.
        """
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        pooled = self.pooler(self.encoder(list(distinct)), self.counts(list(distinct), ratio))
        latents: Latents = replace(self.bottleneck(self.refiner(pooled)), scores=pooled.scores)
        if len(distinct) == len(texts):
            return latents
        return latents.rows([distinct[text] for text in texts])

    def fit(self, texts: Sequence[str]) -> None:
        """Fit what is fitted once and not trained, on all texts of the training split (rule 18)."""
        self.pooler.fit(self.encoder, texts)
        self.port.way.fit(self.pooler)
        if "calibration" in self.port.parts:
            cast(Calibration, self.port.parts["calibration"]).fit(self._reader[0], texts)

    def prefix(self, latents: Latents) -> Prefix:
        """What stands before the text that the reader reads."""
        return self.port.prefix(self._reader[0], latents)

    @contextmanager
    def attached(self, latents: Latents) -> Iterator[None]:
        """Within the block the reader is as the way in needs it."""
        with self.port.way.attached(self._reader[0], latents):
            yield

    def trained(self) -> Mapping[str, nn.Parameter]:
        """Every parameter that training moves, by name."""
        return {name: each for name, each in self.named_parameters() if each.requires_grad}
