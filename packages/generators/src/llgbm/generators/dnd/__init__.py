"""Drag-and-Drop (DnD): LoRA weights as padded tokens, and a convolutional generator of them.

Source: Liang et al., "Drag-and-Drop LLMs: Zero-Shot Prompt-to-Weights", arXiv 2506.16406.
"""

from llgbm.generators.dnd.checkpoints import DnDCheckpointDataset
from llgbm.generators.dnd.conditions import dnd_conditions
from llgbm.generators.dnd.dnd_coding import DnDCoding
from llgbm.generators.dnd.generator_files import load_dnd_generator
from llgbm.generators.dnd.hyper_conv import HyperConvDecoder, HyperConvDecoderConfig
from llgbm.generators.dnd.layout import TokenLayout
from llgbm.generators.dnd.log_std_coding import LogStdCoding
from llgbm.generators.dnd.loss import TokenLoss, token_weights
from llgbm.generators.dnd.tokenizer import WeightTokenizer

__all__ = [
    "DnDCheckpointDataset",
    "DnDCoding",
    "HyperConvDecoder",
    "HyperConvDecoderConfig",
    "LogStdCoding",
    "TokenLayout",
    "TokenLoss",
    "WeightTokenizer",
    "dnd_conditions",
    "load_dnd_generator",
    "token_weights",
]
