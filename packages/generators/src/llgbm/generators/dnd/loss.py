"""TokenLoss: squared error of tokens, masked and weighted per token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError
from llgbm.generators.dnd.tokenizer import token_mask


class TokenLoss:
    """Mean over real entries of weight * (generated - target)^2.

    Args:
        weights: [N], one a token, as `token_weights` gives them; all 1 where None.

    Source: arXiv 2506.16406 (DnD).
    """

    name = "tokens"

    def __init__(self, weights: Tensor | None = None) -> None:
        self.weights = weights

    def __call__(self, generated: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean squared error.

        Args:
            generated: [n, N, H, W].
            target: [n, N, H, W], NaN where nothing is asked of `generated`.

        Returns:
            Scalar. Generated entries at padding get no gradient.

        Raises:
            ValueError: shapes that differ, or weights for another number of tokens.
        """
        if generated.shape != target.shape:
            raise ValueError(
                f"token loss: expected the target's shape {tuple(target.shape)}, "
                f"got {tuple(generated.shape)}"
            )
        mask = token_mask(target)
        # Masked before squaring: NaN times zero would still be NaN in the backward.
        error = torch.where(mask, generated - target.nan_to_num(nan=0.0), 0.0).square()
        if self.weights is not None:
            if self.weights.shape != target.shape[1:2]:
                raise ValueError(
                    f"token loss: weights: expected ({target.shape[1]},), "
                    f"got {tuple(self.weights.shape)}"
                )
            error = error * self.weights.to(error)[:, None, None]
        return error.sum() / mask.sum()


def token_weights(groups: Sequence[Tensor]) -> Tensor:
    """Weigh each token by how far teachers differ in it.

    Per group (the checkpoints of one task), a token's weight is its mean standard deviation
    over the group, divided by the mean over all entries; groups are then averaged.

    Args:
        groups: tokens [n_i, N, H, W] of each task's teachers, at least two each, NaN at padding.

    Returns:
        [N] float32; the mean over real entries is 1.

    Raises:
        SettingError: no groups, or a group whose teachers are all alike.

    Source: arXiv 2506.16406 (DnD), criterion weights.
    """
    if not groups:
        raise SettingError("token weights: expected at least one group of teachers, got none")
    weights = []
    for index, tokens in enumerate(groups):
        real = token_mask(tokens).all(0)
        # Biased: one more teacher should not change the unit.
        spread = torch.where(real, tokens, 0.0).std(0, correction=0)
        total, count = spread.sum(), real.sum()
        if not bool(total > 0):
            raise SettingError(
                f"token weights: group {index}: expected teachers that differ, got "
                f"{len(tokens)} alike"
            )
        per_token = spread.sum((-1, -2)) / real.sum((-1, -2))
        weights.append(per_token * count / total)
    return torch.stack(weights).mean(0)
