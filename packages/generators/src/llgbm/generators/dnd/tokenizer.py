"""WeightTokenizer: adapters to tokens and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.errors import AdapterError
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dnd.coding import Coding
from llgbm.generators.dnd.layout import SCALE_CELLS, TokenLayout
from llgbm.generators.dnd.log_std_coding import LogStdCoding
from llgbm.generators.dnd.scale_cells import read_scales, write_scales


def token_mask(tokens: Tensor) -> Tensor:
    """Return where tokens hold something, bool of the same shape: NaN marks padding."""
    return ~tokens.isnan()


class WeightTokenizer:
    """Tokens [n, N, H, W] of LoRAWeights: normalised chunks with their scales beside them.

    Each factor is cut along its columns (B transposed first) as `layout` says. A token is its
    chunk's content top left, NaN at padding, and two scales repeated over the last two rows
    and columns, from which `detokenize` restores the chunk.

    Args:
        layout: which columns each token holds.
        coding: how mean and size become scales.

    Source: arXiv 2506.16406 (DnD).
    """

    def __init__(self, layout: TokenLayout, coding: Coding | None = None) -> None:
        self.layout = layout
        self.coding: Coding = LogStdCoding() if coding is None else coding
        width = layout.width
        widths = torch.tensor([source.stop - source.start for source in layout.sources()])
        self._valid = (torch.arange(width) < widths[:, None])[:, None]
        self._chunks = [factor.chunks for factor in layout.factors]

    def tokenize(self, weights: LoRAWeights) -> Tensor:
        """Write n adapters as tokens.

        Args:
            weights: n adapters of the layout's spec.

        Returns:
            [n, N, H, W] float32, NaN at padding.

        Raises:
            AdapterError: another spec, or NaN or Inf among the weights.
        """
        if weights.spec != self.layout.spec:
            ours, theirs = self.layout.spec, weights.spec
            raise AdapterError(
                f"tokens: expected adapters of r={ours.r}, lora_alpha={ours.lora_alpha} and "
                f"{len(ours.modules)} modules as the layout, got r={theirs.r}, "
                f"lora_alpha={theirs.lora_alpha}, {len(theirs.modules)} modules"
            )
        weights.check_finite("tokens")
        chunks = self._cut(weights)
        valid = self._valid.to(chunks.device)
        count = valid.sum((-1, -2)) * self.layout.spec.r
        mean = chunks.sum((-1, -2)) / count
        centred = torch.where(valid, chunks - mean[..., None, None], 0.0)
        # One entry alone has no spread: 0 / 0 is the NaN that codings expect.
        std = (centred.square().sum((-1, -2)) / (count - 1)).sqrt()
        content, scales = self.coding.encode(chunks, mean, std)
        return write_scales(torch.where(valid, content, math.nan), scales)

    def detokenize(self, tokens: Tensor) -> LoRAWeights:
        """Restore adapters from tokens, differentiably in the tokens.

        Args:
            tokens: [n, N, H, W] floating point; what is at padding is not read.

        Returns:
            n adapters, float32, contiguous.

        Raises:
            AdapterError: another shape than the layout's.
        """
        return self.join(self.decode(tokens))

    def decode(self, tokens: Tensor) -> Tensor:
        """Undo the normalisation of each token; see `detokenize`.

        Returns:
            [n, N, r, width] float32; anything at padding.
        """
        if tokens.dim() != 4 or tuple(tokens.shape[1:]) != self.layout.shape:
            raise AdapterError(
                f"tokens: expected shape (n, *{self.layout.shape}), got {tuple(tokens.shape)}"
            )
        tokens = tokens.float()
        content = tokens[..., :-SCALE_CELLS, :-SCALE_CELLS]
        return self.coding.decode(content, read_scales(tokens), self._valid.to(tokens.device))

    def join(self, chunks: Tensor) -> LoRAWeights:
        """Put chunks [n, N, r, width] together into n adapters."""
        factors: dict[str, dict[str, Tensor]] = {"lora_A": {}, "lora_B": {}}
        # split and not slices: its backward is one concatenation, where each slice would
        # allocate a gradient of all tokens.
        pieces = chunks.split(self._chunks, dim=1)
        for piece, source in zip(pieces, self.layout.factors, strict=True):
            rows = piece.transpose(1, 2).flatten(2)[..., : source.columns]
            rows = rows if source.factor == "lora_A" else rows.mT
            factors[source.factor][source.path] = rows.contiguous()
        return LoRAWeights(self.layout.spec, factors["lora_A"], factors["lora_B"])

    def _cut(self, weights: LoRAWeights) -> Tensor:
        """Cut factors into chunks [n, N, r, width] float32, zero at padding."""
        width = self.layout.width
        pieces = []
        for source in self.layout.factors:
            if source.factor == "lora_A":
                rows = weights.lora_A[source.path].float()
            else:
                rows = weights.lora_B[source.path].float().mT
            padded = F.pad(rows, (0, source.chunks * width - source.columns))
            pieces.append(padded.unflatten(-1, (source.chunks, width)).transpose(1, 2))
        return torch.cat(pieces, dim=1)
