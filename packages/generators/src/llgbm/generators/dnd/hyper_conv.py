"""HyperConvDecoder: DnD's generator of tokens from the hidden states of many prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import SettingError
from llgbm.generators.dnd.hyper_conv_layer import HyperConvStack, Shape, check_kernel
from llgbm.generators.dnd.length_reduction import LengthReduction


@dataclass(frozen=True)
class HyperConvDecoderConfig:
    """Sizes of a HyperConvDecoder.

    Args:
        features: (N, H, W) of the condition (prompts, tokens, width) and after each layer; the
            last is the shape of an adapter's tokens.
        kernel_size: of every convolution, odd.
        condition_noise: standard deviation added to the condition in training.
        target_noise: the same for the target tokens.
        reduced_from: tokens of a prompt where they are first reduced to features[0][1]; None
            where the condition comes as features[0].

    Raises:
        SettingError: fewer than two features, a size below 1, or an even kernel.
    """

    features: tuple[Shape, ...]
    kernel_size: int
    condition_noise: float = 1e-4
    target_noise: float = 1e-5
    reduced_from: int | None = None

    def __post_init__(self) -> None:
        if len(self.features) < 2 or any(len(f) != 3 or min(f) < 1 for f in self.features):
            raise SettingError(
                f"features: expected at least two of (N, H, W) from 1, got {self.features}"
            )
        check_kernel(self.kernel_size)
        if self.reduced_from is not None and self.reduced_from < 1:
            raise SettingError(f"reduced_from: expected at least 1, got {self.reduced_from}")

    @property
    def condition_shape(self) -> Shape:
        """(prompts, tokens, width) that the decoder reads."""
        prompts, tokens, width = self.features[0]
        return prompts, tokens if self.reduced_from is None else self.reduced_from, width


# Published generators: common sense with Qwen2.5-0.5B, mathematics with Qwen2.5-1.5B.
QWEN_0_5B = HyperConvDecoderConfig(
    features=(
        (128, 384, 384),
        (128, 200, 300),
        (128, 100, 256),
        (256, 50, 200),
        (512, 50, 200),
        (1024, 25, 200),
        (1024, 10, 200),
        (2048, 10, 200),
        (4296, 10, 130),
    ),
    kernel_size=9,
)
QWEN_1_5B = HyperConvDecoderConfig(
    features=(
        (32, 1000, 384),
        (64, 500, 300),
        (256, 500, 300),
        (512, 125, 300),
        (1024, 64, 256),
        (2048, 32, 256),
        (4508, 18, 258),
    ),
    kernel_size=11,
    reduced_from=4608,
)


def small_hyper_conv(condition: Shape, tokens: Shape, channels: int = 64) -> HyperConvDecoderConfig:
    """Preset that trains on a CPU: three layers, kernel 3.

    Args:
        condition: (prompts, tokens, width).
        tokens: (N, H, W) of an adapter, `TokenLayout.shape`.
        channels: tokens in between. A cell of the output is linear in 9 * channels numbers.
    """
    _, height, width = tokens
    between = (channels, height, width)
    return HyperConvDecoderConfig((condition, between, between, tokens), kernel_size=3)


class HyperConvDecoder(nn.Module):
    """Condition [b, prompts, tokens, width] -> adapter tokens [b, N, H, W].

    Args:
        config: sizes.

    Source: arXiv 2506.16406 (DnD).
    """

    def __init__(self, config: HyperConvDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.reduction: nn.Module = nn.Identity()
        if config.reduced_from is not None:
            self.reduction = LengthReduction(config.reduced_from, config.features[0][1])
        self.stack = HyperConvStack(config.features, config.kernel_size)

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, condition: Tensor) -> Tensor:
        """Write tokens.

        Args:
            condition: [b, *config.condition_shape] float32.

        Returns:
            [b, *config.features[-1]].

        Raises:
            SettingError: another shape.
        """
        if tuple(condition.shape[1:]) != self.config.condition_shape:
            raise SettingError(
                f"condition: expected shape (b, *{self.config.condition_shape}), "
                f"got {tuple(condition.shape)}"
            )
        return self.stack(self.reduction(condition))

    def add_noise(
        self, condition: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return condition and target tokens as training sees them, with the config's noise.

        Args:
            condition: [b, prompts, tokens, width].
            target: [b, N, H, W], NaN at padding stays NaN.
            generator: source of randomness, on the CPU.
        """

        def moved(x: Tensor, size: float) -> Tensor:
            return x + size * torch.randn(x.shape, generator=generator).to(x)

        config = self.config
        return moved(condition, config.condition_noise), moved(target, config.target_noise)
