"""PeriodicDecoder: base patterns of 64 columns, extended periodically to a module's width.

Source: seed 000, "Low-Rank Token Representation": per module A_base [r, 64] and B_base [64, r]
with a per-module scale. It is small, and bound: entries a period apart deviate alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.errors import require_at_least
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.decoders.base import Decoder
from llgbm.generators.decoders.trunk import ModuleTrunk
from llgbm.generators.module_groups import unstack_groups


@dataclass(frozen=True)
class PeriodicConfig:
    """Sizes of a PeriodicDecoder.

    Args:
        hidden: width of the trunk and of the pattern head.
        blocks: residual blocks of the trunk.
        period: columns of a base pattern.
    """

    hidden: int = 256
    blocks: int = 2
    period: int = 64

    def __post_init__(self) -> None:
        require_at_least(1, hidden=self.hidden, period=self.period)
        require_at_least(0, blocks=self.blocks)


def extend(pattern: Tensor, dim: int, size: int) -> Tensor:
    """Repeat `pattern` along `dim` up to `size` entries, cutting the last repeat short."""
    period = pattern.shape[dim]
    repeats = [1] * pattern.dim()
    repeats[dim] = -(-size // period)
    return pattern.repeat(repeats).narrow(dim, 0, size).contiguous()


class PeriodicDecoder(Decoder):
    """Condition -> one vector per module -> base patterns -> periodic factors.

    Parameters: modules * hidden for the embeddings, hidden * 2 * r * period for the pattern
    head that all modules share, and the trunk; they do not grow with the model's width.

    Args:
        config: sizes.
        spec: modules and rank.
        condition_dim: width of the condition.
        trunk: reads the condition; a ModuleTrunk where None.
    """

    def __init__(
        self,
        config: PeriodicConfig,
        spec: LoRASpec,
        condition_dim: int,
        trunk: nn.Module | None = None,
    ) -> None:
        super().__init__(spec)
        self.config = config
        self.trunk = trunk or ModuleTrunk(
            len(spec.modules), condition_dim, config.hidden, config.blocks
        )
        self.hidden = nn.Linear(config.hidden, config.hidden)
        self.patterns = nn.Linear(config.hidden, 2 * spec.r * config.period)
        self.gain_B = nn.Linear(config.hidden, 1)
        nn.init.zeros_(self.gain_B.weight)
        nn.init.zeros_(self.gain_B.bias)
        # A module's own sizes, on top of those read off the teachers.
        self.log_scale = nn.Parameter(torch.zeros(len(spec.modules), 2))

    def base_patterns(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Base patterns with their scales.

        Args:
            condition: [b, condition_dim].

        Returns:
            A_base [modules, b, r, period] and B_base [modules, b, period, r].
        """
        tokens, _ = self.trunk(condition)
        flat_A, flat_B = self.patterns(F.gelu(self.hidden(tokens))).chunk(2, dim=-1)
        r, period = self.spec.r, self.config.period
        pattern_A = flat_A.unflatten(-1, (r, period))
        pattern_B = flat_B.unflatten(-1, (period, r)) * self.gain_B(tokens)[..., None]
        scale = self.log_scale.exp()
        scale_A = (self.scale_A * scale[:, 0])[:, None, None, None]
        scale_B = (self.scale_B * scale[:, 1])[:, None, None, None]
        return pattern_A * scale_A, pattern_B * scale_B

    def forward(self, condition: Tensor) -> LoRAWeights:
        """Write n = b adapters; see Decoder."""
        pattern_A, pattern_B = self.base_patterns(condition)
        lora_A, lora_B = [], []
        for index, group in enumerate(self.groups):
            members = self.members(index)
            extended = extend(pattern_A[members], 3, group.in_features)
            lora_A.append(extended + self.base_A(index))
            lora_B.append(extend(pattern_B[members], 2, group.out_features))
        return unstack_groups(self.spec, self.groups, lora_A, lora_B)
