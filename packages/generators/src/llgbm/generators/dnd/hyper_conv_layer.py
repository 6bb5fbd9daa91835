"""HyperConvLayer: convolutions along width, height and tokens."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import SettingError

Shape = tuple[int, int, int]


def check_kernel(kernel_size: int) -> None:
    """Raise SettingError unless a convolution of this size can keep the shape."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise SettingError(f"kernel_size: expected an odd number, got {kernel_size}")


class HyperConvLayer(nn.Module):
    """From [b, N, H, W] to [b, N', H', W'].

    After a LayerNorm over (H, W), two paths change H and W, each by two convolutions in which
    W (then H) are the channels: one takes the width first, the other the height, with a tanh.
    Their sum with a bias over 3 goes through a convolution whose channels are the tokens.

    Args:
        inputs: (N, H, W).
        outputs: (N', H', W').
        kernel_size: of all five convolutions, odd.

    Source: arXiv 2506.16406 (DnD), hyper-convolution block.
    """

    def __init__(self, inputs: Shape, outputs: Shape, kernel_size: int) -> None:
        super().__init__()
        tokens, height, width = inputs
        new_tokens, new_height, new_width = outputs

        def conv(channels: int, new_channels: int, bias: bool = False) -> nn.Conv2d:
            return nn.Conv2d(channels, new_channels, kernel_size, padding="same", bias=bias)

        self.norm = nn.LayerNorm([height, width])
        self.width_first = nn.ModuleDict(
            {"width": conv(width, new_width), "height": conv(height, new_height)}
        )
        self.height_first = nn.ModuleDict(
            {"height": conv(height, new_height), "width": conv(width, new_width)}
        )
        # Small beside the paths, as in DnD.
        bound = 1.0 / (new_height * new_width)
        self.bias = nn.Parameter(torch.empty(new_height, new_width).uniform_(-bound, bound))
        self.tokens = conv(tokens, new_tokens, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [b, N, H, W]."""
        x = self.norm(x)
        # [b, W, H, N]: the kernel spans heights and tokens.
        first = self.width_first["width"](x.transpose(1, 3)).transpose(1, 3)
        # [b, H, N, W']: the kernel spans tokens and widths.
        first = self.width_first["height"](first.transpose(1, 2)).transpose(1, 2)
        second = self.height_first["height"](x.transpose(1, 2)).transpose(1, 2)
        second = self.height_first["width"](second.transpose(1, 3)).transpose(1, 3)
        return self.tokens((first + torch.tanh(second) + self.bias) / 3)


class HyperConvStack(nn.Module):
    """HyperConvLayers one after another, residual where a layer keeps the shape.

    Args:
        features: (N, H, W) of the input and after each layer, at least two.
        kernel_size: odd.
    """

    def __init__(self, features: tuple[Shape, ...], kernel_size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            HyperConvLayer(inputs, outputs, kernel_size) for inputs, outputs in pairwise(features)
        )

    def forward(self, x: Tensor) -> Tensor:
        """From [b, *features[0]] to [b, *features[-1]]."""
        for layer in self.layers:
            y = layer(x)
            x = x + y if x.shape == y.shape else y
        return x
