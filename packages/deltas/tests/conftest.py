import os

os.environ["HF_HUB_OFFLINE"] = "1"
# Fixed shapes on few threads: small tests do not gain from more.
os.environ.setdefault("OMP_NUM_THREADS", "2")

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.tokenizers import register_tokenizer
from llgbm.deltas.weights import LoRAWeights

SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_implementation": "sdpa",
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One id a byte."""
    vocabulary = {chr(code): code for code in range(256)} | {"<unk>": 256, "<eos>": 257}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>"
    )


@pytest.fixture
def make_tiny_model() -> Callable:
    """Return a maker of fresh, seeded, frozen two-layer models with a tokenizer."""

    def make(seed: int = 0, kind: str = "llama", **settings):
        config_type, model_type = {
            "llama": (LlamaConfig, LlamaForCausalLM),
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
            "qwen3": (Qwen3Config, Qwen3ForCausalLM),
            "mistral": (MistralConfig, MistralForCausalLM),
            "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
        }[kind]
        torch.manual_seed(seed)
        model = model_type(config_type(**SIZES | settings)).eval().requires_grad_(False)
        register_tokenizer(model, tiny_tokenizer())
        return model

    return make


@pytest.fixture
def make_weights() -> Callable:
    """Return a maker of n random adapters with both factors away from zero."""

    def make(model, n: int = 3, r: int = 4, seed: int = 0, **spec) -> LoRAWeights:
        generator = torch.Generator().manual_seed(seed)
        lora = LoRASpec.from_model(model, r, 2.0 * r, **spec)
        drawn = LoRAWeights.initial(lora, n, generator, shared_A=False)
        lora_B = {
            path: 0.1 * torch.randn(factor.shape, generator=generator)
            for path, factor in drawn.lora_B.items()
        }
        return LoRAWeights(lora, drawn.lora_A, lora_B)

    return make


@pytest.fixture
def saved_model(make_tiny_model, tmp_path):
    """Return the folder of a saved tiny model with its tokenizer."""
    folder = tmp_path / "model"
    make_tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
