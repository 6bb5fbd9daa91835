"""Decoder: what all decoders share, namely the frame in which they write their factors.

A decoder writes deviations of unit size; the frame turns them into factors:

    A = base_A + scale_A * a        B = scale_B * gain * b

`base_A` is what the teachers' A have in common (their shared initialisation, moved by
their mean), `scale_A` and `scale_B` are per-module sizes read off the teachers, and `gain` is
a head of the decoder that starts at zero: an untrained generator writes adapters that change
nothing, whatever the condition.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.module_groups import module_groups, stack_group
from llgbm.generators.spec_words import told_apart

# Teachers whose A are equal to base_A (one teacher alone) have no deviation to measure: A may
# then still move by this share of its own size, or its deviation could not be learned at all.
SMALLEST_DEVIATION = 1e-3
# Typical size of a trained B entry before any teacher was seen: ten to fifteen AdamW steps of
# the usual rate 1e-3, partly cancelling.
DEFAULT_SCALE_B = 5e-3


class Decoder(nn.Module, ABC):
    """Maps a condition to a batch of adapters.

    Args:
        spec: modules and rank of the adapters it writes.

    Attributes:
        groups: modules of equal shape; factors are made per group, modules first.
        scale_A: buffer [modules], size of A's deviation from `base_A`; before `fit_scales`, the
            RMS of PEFT's initialisation.
        scale_B: buffer [modules], size of B.
    """

    scale_A: Tensor
    scale_B: Tensor

    def __init__(self, spec: LoRASpec) -> None:
        super().__init__()
        self.spec = spec
        self.groups = module_groups(spec)
        initial_rms = [1.0 / math.sqrt(3 * module.in_features) for module in spec.modules]
        self.register_buffer("scale_A", torch.tensor(initial_rms))
        self.register_buffer("scale_B", torch.full((len(spec.modules),), DEFAULT_SCALE_B))
        for index, group in enumerate(self.groups):
            zeros = torch.zeros(len(group), 1, spec.r, group.in_features)
            self.register_buffer(f"base_A_{index}", zeros)
            self.register_buffer(f"group_{index}", torch.tensor(group.indices), persistent=False)

    @abstractmethod
    def forward(self, condition: Tensor) -> LoRAWeights:
        """Write adapters.

        Args:
            condition: [b, condition_dim] float32.

        Returns:
            n = b adapters, float32, each tensor contiguous.
        """

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars."""
        return sum(parameter.numel() for parameter in self.parameters())

    def base_A(self, group: int) -> Tensor:
        """What A starts from, [modules of the group, 1, r, in]."""
        return self.get_buffer(f"base_A_{group}")

    def members(self, group: int) -> Tensor:
        """Positions of the group's modules in the spec, int64."""
        return self.get_buffer(f"group_{group}")

    @torch.no_grad()
    def set_base(self, weights: LoRAWeights) -> None:
        """Let A start from the mean of these adapters' A.

        Args:
            weights: n training teachers, or the one initialisation that they share.

        Raises:
            ValueError: another spec, NaN or Inf.
        """
        self._check_teachers(weights)
        for index, group in enumerate(self.groups):
            mean = stack_group(weights.lora_A, group).float().mean(1, keepdim=True)
            self.base_A(index).copy_(mean)

    @torch.no_grad()
    def fit_scales(self, teachers: LoRAWeights) -> None:
        """Set both scales to the teachers' per-module RMS: of A - base_A, and of B.

        Call `set_base` first: the deviation is taken from it.

        Args:
            teachers: n training teachers.

        Raises:
            ValueError: another spec, NaN or Inf.
        """
        self._check_teachers(teachers)
        for index, group in enumerate(self.groups):
            lora_A = stack_group(teachers.lora_A, group).float()
            lora_B = stack_group(teachers.lora_B, group).float()
            size = lora_A.square().mean((1, 2, 3)).sqrt()
            deviation = (lora_A - self.base_A(index).to(lora_A.device)).square().mean((1, 2, 3))
            scale_A = torch.maximum(deviation.sqrt(), SMALLEST_DEVIATION * size)
            scale_B = lora_B.square().mean((1, 2, 3)).sqrt()
            # A module that no teacher trained keeps B at zero, exactly.
            self.scale_A[self.members(index)] = scale_A.to(self.scale_A)
            self.scale_B[self.members(index)] = scale_B.to(self.scale_B)

    def _check_teachers(self, weights: LoRAWeights) -> None:
        if weights.spec != self.spec:
            expected, got = told_apart(self.spec, weights.spec)
            raise ValueError(f"teachers: expected the decoder's spec ({expected}), got {got}")
        weights.check_finite("teachers")
