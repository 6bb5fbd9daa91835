"""Models to measure on: real ones, or the shapes of others with random weights."""

from __future__ import annotations

from typing import Any

import torch

from llgbm.deltas.base_models import default_device, default_dtype, load_base_model
from llgbm.deltas.errors import ModelError

# Published shapes: hidden, intermediate, layers, heads, key-value heads, vocabulary.
SHAPES = {
    "random:llama-tiny": (32, 64, 2, 4, 2, 320),
    "random:qwen2.5-0.5b": (896, 4864, 24, 14, 2, 151936),
    "random:qwen2.5-1.5b": (1536, 8960, 28, 12, 2, 151936),
}


def bench_model(name: str, dtype: str, seed: int) -> Any:
    """Load a model by name, or build `random:...` from its shape; frozen, in evaluation mode.

    Args:
        name: a base model's name, or one of SHAPES.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        seed: of random weights.

    Raises:
        ModelError: an unknown shape.
    """
    device = default_device()
    kind = default_dtype(device) if dtype == "auto" else getattr(torch, dtype)
    if not name.startswith("random:"):
        return load_base_model(name, dtype=kind)[0]
    if name not in SHAPES:
        raise ModelError(f"model: expected a name or one of {sorted(SHAPES)}, got {name!r}")
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[name]
    tiny = name == "random:llama-tiny"
    config = (LlamaConfig if tiny else Qwen2Config)(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (LlamaForCausalLM if tiny else Qwen2ForCausalLM)(config)
    return model.to(device, kind).eval().requires_grad_(False)


def byte_tokenizer() -> Any:
    """A tokenizer of 256 bytes and an end token, for models with random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",
        pad_token="<end>",
        clean_up_tokenization_spaces=False,
    )
