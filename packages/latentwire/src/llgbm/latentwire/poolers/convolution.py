"""Strided convolution: one learned kernel slides over the text (seed 004, experiment 6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States
from llgbm.latentwire.poolers.base import POOLERS, Pooler, segments
from llgbm.latentwire.poolers.head import Head, latent_width
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("convolution")
@dataclass(frozen=True)
class ConvolutionPoolerConfig:
    """A kernel that moves by about as many positions as a slot stands for.

    Args:
        stride: positions that the kernel moves by; 0 for the whole part of the slots' ratio, and
            1 where the number of slots is fixed.
        overlap: positions that the kernel sees beyond its stride, on either side.
        hidden: width of the MLP over the encoder's width.
        width: of the latents; 0 for the encoder's, or the reader's with the next.
        start_from_embeddings: add the mean of the reader's embeddings of the slot's share of the
            text, where the encoder has them.
    """

    stride: int = 0
    overlap: int = 1
    hidden: float = 2.0
    width: int = 0
    start_from_embeddings: bool = True

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> ConvolutionPooler:
        """Build it.

        Raises:
            ConfigError: a negative stride or overlap, or a width that does not fit.
        """
        if self.stride < 0 or self.overlap < 0:
            raise ConfigError(
                "pooler: expected no negative stride or overlap, "
                f"got {self.stride} and {self.overlap}"
            )
        stride = self.stride or (1 if slots.fixed else int(slots.ratio))
        return ConvolutionPooler(self, encoder, reader, stride)


class ConvolutionPooler(Pooler):
    """Outputs of the kernel, averaged (or repeated) by contiguous shares to exactly the slots."""

    def __init__(
        self, config: ConvolutionPoolerConfig, encoder: Encoder, reader: Reader, stride: int
    ) -> None:
        super().__init__()
        start = config.start_from_embeddings and encoder.gives_inputs
        self.width = latent_width(config.width, encoder, reader, start)
        self.stride, self.overlap = stride, config.overlap
        self.kernel = nn.Conv1d(
            encoder.width, encoder.width, kernel_size=stride + 2 * config.overlap, stride=stride
        )
        self.head = Head(encoder.width, self.width, config.hidden, reader, start)

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`."""
        values = layer_norm(states.values, states.values.shape[-1:]) * states.mask[..., None]
        steps = -(-states.lengths // self.stride)
        behind = int(steps.max()) * self.stride - values.shape[1] + self.overlap
        # A negative width of padding cuts: padded positions may reach past the last step.
        slid = self.kernel(pad(values.transpose(1, 2), (self.overlap, behind)))
        return self.head(segments(steps, counts) @ slid.transpose(1, 2), states, counts)
