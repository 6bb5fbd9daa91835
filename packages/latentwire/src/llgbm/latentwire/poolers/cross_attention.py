"""Multi-head attention from one set of vectors to another, and where positions are told to it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from llgbm.latentwire.attention_heads import split_heads
from llgbm.latentwire.errors import ConfigError


class CrossAttention(nn.Module):
    """Vectors that look at other vectors and take from them.

    Args:
        width: d of both.
        heads: attention heads.

    Raises:
        ConfigError: heads that do not divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"pooler.heads: expected a divisor of {width}, got {heads}")
        self.heads = heads
        self.query, self.key, self.value, self.merge = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """What every query takes.

        Args:
            queries: [b, m, d] float32.
            keys: [b, t, d] float32, by which positions are found.
            values: [b, t, d] float32, what is taken from them.
            mask: [b, m, t] or [b, 1, t] bool, True where a query may look; somewhere for each.

        Returns:
            [b, m, d] float32.
        """
        taken = scaled_dot_product_attention(
            split_heads(self.query(queries), self.heads),
            split_heads(self.key(keys), self.heads),
            split_heads(self.value(values), self.heads),
            attn_mask=mask[:, None],
        )
        return self.merge(taken.transpose(1, 2).flatten(2))
