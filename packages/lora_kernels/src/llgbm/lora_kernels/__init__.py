"""Linear layers with one LoRA adapter an item: y = x Wᵀ + s (x Aᵀ) Bᵀ for n adapters at once."""

from llgbm.lora_kernels.backends import use_backend
from llgbm.lora_kernels.linear import lora_linear
from llgbm.lora_kernels.ragged import lora_linear_ragged

__all__ = ["lora_linear", "lora_linear_ragged", "use_backend"]
