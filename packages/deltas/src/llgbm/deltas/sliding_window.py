"""Masks of packed rows for models whose layers look back a limited number of tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from llgbm.deltas.packing import PackedBatch


def layer_masks(model: nn.Module, packed: PackedBatch) -> Tensor | dict[str, Tensor]:
    """What to give the decoder as `attention_mask` for a packed batch.

    transformers uses a mask of four axes as it is in every layer, so that layers with a sliding
    window (Gemma 3, Mistral) would look further back than they do in a plain forward.

    Args:
        model: of transformers.
        packed: on the device of the model.

    Returns:
        A mask [rows, 1, t, t] bool; by layer type where the model tells types apart.
    """
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    mask, positions = packed.attention_mask, packed.position_ids
    window = getattr(config, "sliding_window", None)
    # Positions count within a tree, and no row has more of them than tokens.
    if window is None or packed.input_ids.shape[1] <= window:
        return mask
    near = positions[:, None, :, None] - positions[:, None, None, :] < window
    types = getattr(config, "layer_types", None)
    if types is None:
        return mask & near
    return {name: mask & near if name == "sliding_attention" else mask for name in set(types)}
