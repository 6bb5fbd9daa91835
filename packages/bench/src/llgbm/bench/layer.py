"""The linears of one decoder layer with n adapters: the workload of the kernel benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# (hidden, intermediate, heads * head width, key-value heads * head width, biases on q, k, v)
LAYERS = {
    "smollm2-135m": (576, 1536, 576, 192, False),
    "qwen2.5-0.5b": (896, 4864, 896, 128, True),
    "qwen2.5-1.5b": (1536, 8960, 1536, 256, True),
    "tiny": (48, 96, 48, 16, True),
}
# Linears that read the same tensor.
GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


@dataclass(frozen=True)
class Group:
    """Linears on one x.

    Attributes:
        x: [n, m, in], wants a gradient.
        weights: [out_g, in] each, frozen.
        lora_A, lora_B: [n, r, in] and [n, out_g, r] each, float32, want gradients.
        biases: [out_g] each or None.
        dys: [n, m, out_g] each, gradients of the outputs.
    """

    x: Tensor
    weights: tuple[Tensor, ...]
    lora_A: tuple[Tensor, ...]
    lora_B: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    dys: tuple[Tensor, ...]

    def wanted(self) -> list[Tensor]:
        """What gets a gradient."""
        return [self.x, *self.lora_A, *self.lora_B]

    def double(self) -> Group:
        """The same numbers in float64."""

        def wide(tensor: Tensor) -> Tensor:
            return tensor.detach().double().requires_grad_(tensor.requires_grad)

        return Group(
            wide(self.x),
            tuple(map(wide, self.weights)),
            tuple(map(wide, self.lora_A)),
            tuple(map(wide, self.lora_B)),
            tuple(None if bias is None else wide(bias) for bias in self.biases),
            tuple(map(wide, self.dys)),
        )


@dataclass(frozen=True)
class Layer:
    """All groups of a decoder layer.

    Attributes:
        groups: as in GROUPS.
        scaling: [n] float32.
        n, m, r: adapters, rows of each, rank.
        widths: (in, out) of every linear.
    """

    groups: tuple[Group, ...]
    scaling: Tensor
    n: int
    m: int
    r: int
    widths: tuple[tuple[int, int], ...]


def make_layer(
    shapes: str, n: int, m: int, r: int, dtype: torch.dtype, device: torch.device, seed: int
) -> Layer:
    """Build the workload: real weights of the first layer for SmolLM2, random ones else.

    Args:
        shapes: a name in LAYERS.
        n, m, r: adapters, rows of each, rank.
        dtype: of weights and activations.
        device: to run on.
        seed: of everything random.
    """
    hidden, inner, attended, shared, biased = LAYERS[shapes]
    sizes = {
        "q_proj": (hidden, attended),
        "k_proj": (hidden, shared),
        "v_proj": (hidden, shared),
        "o_proj": (attended, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    generator = torch.Generator().manual_seed(seed)
    real = _first_layer() if shapes == "smollm2-135m" else {}

    def drawn(*shape: int, scale: float = 1.0, kind: torch.dtype = dtype) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator)).to(device, kind)

    groups = []
    for names in GROUPS:
        inside = sizes[names[0]][0]
        outs = [sizes[name][1] for name in names]
        weights = tuple(
            real[name].to(device, dtype) if name in real else drawn(out, inside, scale=inside**-0.5)
            for name, out in zip(names, outs, strict=True)
        )
        groups.append(
            Group(
                drawn(n, m, inside).requires_grad_(),
                weights,
                tuple(
                    drawn(n, r, inside, scale=inside**-0.5, kind=torch.float32).requires_grad_()
                    for _ in names
                ),
                tuple(
                    drawn(n, out, r, scale=0.02, kind=torch.float32).requires_grad_()
                    for out in outs
                ),
                tuple(drawn(out) if biased and names[0] == "q_proj" else None for out in outs),
                tuple(drawn(n, m, out) for out in outs),
            )
        )
    scaling = torch.full((n,), 2.0, device=device)
    return Layer(tuple(groups), scaling, n, m, r, tuple(sizes.values()))


def _first_layer() -> dict[str, Any]:
    """Weights of SmolLM2's first decoder layer, by name of the linear."""
    from llgbm.deltas.base_models import load_base_model

    layer = load_base_model("smollm2-135m", dtype=torch.bfloat16)[0].model.layers[0]
    modules = {**dict(layer.self_attn.named_children()), **dict(layer.mlp.named_children())}
    return {
        name: module.weight.detach() for name, module in modules.items() if name.endswith("_proj")
    }
