"""Linear layers with one LoRA adapter an item: y = x Wᵀ + s (x Aᵀ) Bᵀ for n adapters at once."""

from llgbm.lora_kernels.backends import use_backend
from llgbm.lora_kernels.dispatch import Tiles, use_tiles
from llgbm.lora_kernels.grouped import lora_linear_grouped
from llgbm.lora_kernels.linear import lora_linear
from llgbm.lora_kernels.ragged import lora_linear_ragged
from llgbm.lora_kernels.segments import Segments

__all__ = [
    "Segments",
    "Tiles",
    "lora_linear",
    "lora_linear_grouped",
    "lora_linear_ragged",
    "use_backend",
    "use_tiles",
]
