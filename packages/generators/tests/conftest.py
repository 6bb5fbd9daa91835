"""Tiny real parts: nothing here needs a network or a large model."""

from __future__ import annotations

import os

# Before transformers is imported: a test that reaches for the hub must fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights

HIDDEN, KV, INTERMEDIATE, LAYERS, VOCABULARY = 32, 16, 64, 2, 320
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KV),
    "self_attn.v_proj": (HIDDEN, KV),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INTERMEDIATE),
    "mlp.up_proj": (HIDDEN, INTERMEDIATE),
    "mlp.down_proj": (INTERMEDIATE, HIDDEN),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny products lose more to threads than they win, and several test runs share a machine."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_spec() -> LoRASpec:
    """All seven linears of the two layers of `make_tiny_model`, r = 4, scaling 2."""
    modules = tuple(
        ModuleShape(f"model.layers.{layer}.{name}", *shape)
        for layer in range(LAYERS)
        for name, shape in SHAPES.items()
    )
    return LoRASpec(modules, r=4, lora_alpha=8.0)


@pytest.fixture
def make_tiny_model() -> Callable[..., LlamaForCausalLM]:
    """Return a maker of fresh frozen tiny Llamas: `make_tiny_model(seed=0)`, float32, eval."""

    def make(seed: int = 0) -> LlamaForCausalLM:
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            intermediate_size=INTERMEDIATE,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            attn_implementation="sdpa",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
        return model.requires_grad_(False).eval()

    return make


@pytest.fixture
def make_teachers() -> Callable[..., LoRAWeights]:
    """Return a maker of random adapters around one A: `make_teachers(spec, n, seed=0)`."""

    def make(spec: LoRASpec, n: int, seed: int = 0) -> LoRAWeights:
        generator = torch.Generator().manual_seed(seed)
        initial = LoRAWeights.initial(spec, n, generator)

        def moved(factor: torch.Tensor, size: float) -> torch.Tensor:
            return factor + size * torch.randn(factor.shape, generator=generator)

        return LoRAWeights(
            spec,
            {path: moved(factor, 0.02) for path, factor in initial.lora_A.items()},
            {path: moved(factor, 0.05) for path, factor in initial.lora_B.items()},
        )

    return make
