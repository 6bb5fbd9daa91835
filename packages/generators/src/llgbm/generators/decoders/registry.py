"""Decoders by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llgbm.deltas.spec import LoRASpec
from llgbm.generators.decoders.base import Decoder
from llgbm.generators.decoders.full_width import FullWidthConfig, FullWidthDecoder
from llgbm.generators.decoders.hyper_conv import HyperConvConfig, HyperConvLoRADecoder
from llgbm.generators.decoders.periodic import PeriodicConfig, PeriodicDecoder

DecoderConfig = FullWidthConfig | PeriodicConfig | HyperConvConfig


@dataclass(frozen=True)
class DecoderKind:
    """A decoder and the config that it reads."""

    config: type[FullWidthConfig] | type[PeriodicConfig] | type[HyperConvConfig]
    build: type[FullWidthDecoder] | type[PeriodicDecoder] | type[HyperConvLoRADecoder]


DECODERS: Mapping[str, DecoderKind] = MappingProxyType(
    {
        "full_width": DecoderKind(FullWidthConfig, FullWidthDecoder),
        "hyper_conv": DecoderKind(HyperConvConfig, HyperConvLoRADecoder),
        "periodic": DecoderKind(PeriodicConfig, PeriodicDecoder),
    }
)


def decoder_name(config: DecoderConfig) -> str:
    """Name under which the decoder of `config` is registered."""
    return next(name for name, kind in DECODERS.items() if kind.config is type(config))


def make_decoder(config: DecoderConfig, spec: LoRASpec, condition_dim: int) -> Decoder:
    """Build the decoder that reads `config`.

    Args:
        config: one of the registered config types.
        spec: modules and rank of the adapters.
        condition_dim: width of the condition.

    Raises:
        ValueError: a config of no registered decoder.
    """
    for kind in DECODERS.values():
        if isinstance(config, kind.config):
            return kind.build(config, spec, condition_dim)  # type: ignore[arg-type]
    known = [kind.config.__name__ for kind in DECODERS.values()]
    raise ValueError(f"decoder: expected a config among {known}, got {type(config).__name__}")
