"""FullWidthDecoder: every module has full-width linear heads of its own.

A trunk shared over modules reads the condition and gives each module a short code; the
module's own heads turn the code into all entries of A and B, free of any pattern or rank
constraint across entries. Heads shared by modules would be smaller, but teachers' factors have
no common subspace of their width: such heads fit a dozen teachers slowly or not at all, and
cost several times more arithmetic, since they run once per rank and module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import SettingError, require_at_least
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.decoders.base import Decoder
from llgbm.generators.decoders.trunk import ModuleTrunk
from llgbm.generators.module_groups import unstack_groups


@dataclass(frozen=True)
class FullWidthConfig:
    """Sizes of a FullWidthDecoder.

    Args:
        hidden: width of the trunk and of the module embeddings.
        blocks: residual blocks of the trunk.
        codes: inputs of each module's own heads. Most of the parameters are
            codes x numbers in an adapter; as many codes as there are distinct teachers
            are enough to hold each of them exactly.
        head_gain: fixed factor on the heads. Their weights start 1/head_gain as large, so
            one AdamW step moves an output head_gain times as far: heads and trunk can
            then share one learning rate.
    """

    hidden: int = 256
    blocks: int = 2
    codes: int = 12
    head_gain: float = 64.0

    def __post_init__(self) -> None:
        require_at_least(1, hidden=self.hidden, codes=self.codes)
        require_at_least(0, blocks=self.blocks)
        if not self.head_gain > 0:
            raise SettingError(f"head_gain: expected more than 0, got {self.head_gain:g}")


class FullWidthDecoder(Decoder):
    """Condition -> code per module -> all entries of A and B.

    Parameters: codes * (numbers in an adapter) + about 1 M for the trunk at hidden 256.

    Args:
        config: sizes.
        spec: modules and rank.
        condition_dim: width of the condition.
        trunk: reads the condition; a ModuleTrunk where None.
    """

    def __init__(
        self,
        config: FullWidthConfig,
        spec: LoRASpec,
        condition_dim: int,
        trunk: nn.Module | None = None,
    ) -> None:
        super().__init__(spec)
        self.config = config
        modules, codes = len(spec.modules), config.codes
        self.trunk = trunk or ModuleTrunk(modules, condition_dim, config.hidden, config.blocks)
        # Codes of A and of B; a part that all modules share lets the condition through at once.
        self.module_codes = nn.Linear(config.hidden, 2 * codes)
        self.shared_codes = nn.Linear(config.hidden, 2 * codes, bias=False)
        self.gain_B = nn.Linear(config.hidden, 1)
        nn.init.zeros_(self.gain_B.weight)
        nn.init.zeros_(self.gain_B.bias)
        std = 1.0 / (config.head_gain * math.sqrt(codes))
        self.heads_A = nn.ParameterList(
            std * torch.randn(len(group), codes, spec.r * group.in_features)
            for group in self.groups
        )
        self.heads_B = nn.ParameterList(
            std * torch.randn(len(group), codes, group.out_features * spec.r)
            for group in self.groups
        )

    def codes(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Codes with every scale folded in, so that a head is one product.

        Args:
            condition: [b, condition_dim].

        Returns:
            For A and for B, each [modules, b, codes].
        """
        tokens, seen = self.trunk(condition)
        codes_A, codes_B = (self.module_codes(tokens) + self.shared_codes(seen)).chunk(2, dim=-1)
        scale_A = self.config.head_gain * self.scale_A[:, None, None]
        scale_B = self.config.head_gain * self.scale_B[:, None, None]
        return codes_A * scale_A, codes_B * scale_B * self.gain_B(tokens)

    def forward(self, condition: Tensor) -> LoRAWeights:
        """Write n = b adapters; see Decoder."""
        b, r = condition.shape[0], self.spec.r
        codes_A, codes_B = self.codes(condition)
        lora_A, lora_B = [], []
        for index, group in enumerate(self.groups):
            base = self.base_A(index).flatten(2).expand(-1, b, -1)
            members = self.members(index)
            factor_A = torch.baddbmm(base, codes_A[members], self.heads_A[index])
            factor_B = torch.bmm(codes_B[members], self.heads_B[index])
            lora_A.append(factor_A.view(len(group), b, r, group.in_features))
            lora_B.append(factor_B.view(len(group), b, group.out_features, r))
        return unstack_groups(self.spec, self.groups, lora_A, lora_B)
