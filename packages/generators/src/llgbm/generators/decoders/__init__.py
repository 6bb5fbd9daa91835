"""Decoders: from a condition to the LoRA factors of every module, one way a file."""

from llgbm.generators.decoders.base import Decoder
from llgbm.generators.decoders.full_width import FullWidthConfig, FullWidthDecoder
from llgbm.generators.decoders.hyper_conv import HyperConvConfig, HyperConvLoRADecoder
from llgbm.generators.decoders.periodic import PeriodicConfig, PeriodicDecoder
from llgbm.generators.decoders.registry import DECODERS, DecoderConfig, make_decoder

__all__ = [
    "DECODERS",
    "Decoder",
    "DecoderConfig",
    "FullWidthConfig",
    "FullWidthDecoder",
    "HyperConvConfig",
    "HyperConvLoRADecoder",
    "PeriodicConfig",
    "PeriodicDecoder",
    "make_decoder",
]
