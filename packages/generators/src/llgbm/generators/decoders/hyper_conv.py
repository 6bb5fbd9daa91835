"""HyperConvLoRADecoder: DnD's convolutional generator in our frame, from one condition vector.

The condition is mapped to a small image, the image by hyper-convolutions to tokens, and the
tokens' normalisation undone: that gives A and B in units of the frame. The gain has a head of
its own, one number per module, so an untrained decoder changes nothing as the others do.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from llgbm.deltas.errors import require_at_least
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.decoders.base import Decoder
from llgbm.generators.dnd.hyper_conv_layer import HyperConvStack, check_kernel
from llgbm.generators.dnd.layout import TokenLayout, check_width
from llgbm.generators.dnd.tokenizer import WeightTokenizer


@dataclass(frozen=True)
class HyperConvConfig:
    """Sizes of a HyperConvLoRADecoder.

    Args:
        token_width: columns of a token, even. A width that divides those of the modules leaves
            no padding (192 for SmolLM2-135M).
        channels: tokens of the image and between layers. A cell of the output is linear in
            channels x kernel_size^2 numbers.
        image_height: rows of the image that the condition is mapped to.
        image_width: columns of that image.
        layers: hyper-convolutions, at least 1; those between the first and the last are
            residual.
        kernel_size: of every convolution, odd.

    Raises:
        SettingError: a size below 1, an odd width or an even kernel.
    """

    token_width: int = 192
    channels: int = 32
    image_height: int = 4
    image_width: int = 32
    layers: int = 3
    kernel_size: int = 3

    def __post_init__(self) -> None:
        require_at_least(
            1,
            channels=self.channels,
            image_height=self.image_height,
            image_width=self.image_width,
            layers=self.layers,
        )
        check_width("token_width", self.token_width)
        check_kernel(self.kernel_size)


class HyperConvLoRADecoder(Decoder):
    """Condition -> image [channels, h, w] -> tokens [N, H, W] -> A and B.

    Args:
        config: sizes.
        spec: modules and rank.
        condition_dim: width of the condition.

    Source: arXiv 2506.16406 (DnD) for the hyper-convolutions and the tokens.
    """

    def __init__(self, config: HyperConvConfig, spec: LoRASpec, condition_dim: int) -> None:
        super().__init__(spec)
        self.config = config
        layout = TokenLayout.from_spec(spec, config.token_width)
        self.tokenizer = WeightTokenizer(layout)
        image = (config.channels, config.image_height, config.image_width)
        between = (config.channels, layout.height, layout.token_width)
        features = (image, *([between] * (config.layers - 1)), layout.shape)
        self.image = nn.Linear(condition_dim, config.channels * image[1] * image[2])
        self.stack = HyperConvStack(features, config.kernel_size)
        self.gain_B = nn.Linear(condition_dim, len(spec.modules))
        nn.init.zeros_(self.gain_B.weight)
        nn.init.zeros_(self.gain_B.bias)

    def tokens(self, condition: Tensor) -> Tensor:
        """Tokens of A and B in units of the frame, before the gain.

        Args:
            condition: [b, condition_dim].

        Returns:
            [b, N, H, W].
        """
        config = self.config
        image = self.image(condition).unflatten(
            1, (config.channels, config.image_height, config.image_width)
        )
        return self.stack(image)

    def forward(self, condition: Tensor) -> LoRAWeights:
        """Write n = b adapters; see Decoder."""
        relative = self.tokenizer.detokenize(self.tokens(condition))
        gain = self.gain_B(condition) * self.scale_B
        lora_A: dict[str, Tensor] = {}
        lora_B: dict[str, Tensor] = {}
        for index, group in enumerate(self.groups):
            base = self.base_A(index)
            for place, (path, position) in enumerate(zip(group.paths, group.indices, strict=True)):
                deviation = relative.lora_A[path] * self.scale_A[position]
                lora_A[path] = base[place] + deviation
                lora_B[path] = relative.lora_B[path] * gain[:, position, None, None]
        return LoRAWeights(self.spec, lora_A, lora_B)
