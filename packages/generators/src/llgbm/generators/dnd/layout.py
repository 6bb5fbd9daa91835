"""TokenLayout: which columns of which factor each token of an adapter holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from llgbm.deltas.errors import SettingError
from llgbm.deltas.spec import LoRASpec, ModuleShape

# Rows and columns that every token keeps for the mean and the size of its chunk.
SCALE_CELLS = 2
MODULE_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")

Factor = Literal["lora_A", "lora_B"]


@dataclass(frozen=True)
class FactorChunks:
    """One factor of one module, cut into chunks of columns; B is transposed first.

    Attributes:
        module: position of the module in the spec.
        path: of the module.
        factor: `lora_A` or `lora_B`.
        columns: of the factor as [r, columns]: in_features for A, out_features for B.
        first: position of its first token.
        chunks: number of its tokens.
    """

    module: int
    path: str
    factor: Factor
    columns: int
    first: int
    chunks: int


@dataclass(frozen=True)
class TokenSource:
    """Where a token's content comes from: columns start to stop of a factor [r, columns]."""

    path: str
    factor: Factor
    start: int
    stop: int


@dataclass(frozen=True)
class TokenLayout:
    """N tokens of H rows and W columns that hold one adapter.

    Modules come by layer, then q, k, v, o, up, gate, down, then others as the spec lists them;
    of each module first A's chunks, then those of B transposed. A factor's last chunk is
    narrower where `width` does not divide its columns.

    Args:
        spec: modules and rank.
        width: columns of a chunk, even.

    Raises:
        SettingError: a width that is odd or below 2.
    """

    spec: LoRASpec
    width: int

    def __post_init__(self) -> None:
        check_width("width", self.width)

    @classmethod
    def from_spec(cls, spec: LoRASpec, width: int) -> TokenLayout:
        """Lay out the adapters of `spec` in tokens of `width` content columns.

        Args:
            spec: modules and rank.
            width: 128 for DnD's Qwen2.5-0.5B, 256 for 1.5B, 512 for 7B.

        Raises:
            SettingError: a width that is odd or below 2.
        """
        return cls(spec, width)

    @cached_property
    def factors(self) -> tuple[FactorChunks, ...]:
        """All factors in the order of their tokens."""
        order = sorted(range(len(self.spec.modules)), key=lambda i: _rank(self.spec.modules[i], i))
        factors: list[FactorChunks] = []
        first = 0
        for index in order:
            module = self.spec.modules[index]
            parts: tuple[tuple[Factor, int], ...] = (
                ("lora_A", module.in_features),
                ("lora_B", module.out_features),
            )
            for factor, columns in parts:
                chunks = -(-columns // self.width)
                factors.append(FactorChunks(index, module.path, factor, columns, first, chunks))
                first += chunks
        return tuple(factors)

    @property
    def tokens(self) -> int:
        """N, tokens of an adapter."""
        return self.factors[-1].first + self.factors[-1].chunks

    @property
    def height(self) -> int:
        """H: r rows of content and two of scales."""
        return self.spec.r + SCALE_CELLS

    @property
    def token_width(self) -> int:
        """W: `width` columns of content and two of scales."""
        return self.width + SCALE_CELLS

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return self.tokens, self.height, self.token_width

    def sources(self) -> Iterator[TokenSource]:
        """Yield where each token's content comes from, in order."""
        for factor in self.factors:
            for start in range(0, factor.columns, self.width):
                stop = min(start + self.width, factor.columns)
                yield TokenSource(factor.path, factor.factor, start, stop)


def check_width(setting: str, width: int) -> None:
    """Raise SettingError unless tokens can be this wide.

    Mean and size alternate along a row: an odd width would leave one without its pair.
    """
    if width < 2 or width % 2:
        raise SettingError(f"{setting}: expected an even number from 2, got {width}")


def _rank(module: ModuleShape, index: int) -> tuple[int, int, int]:
    known = module.name in MODULE_ORDER
    place = MODULE_ORDER.index(module.name) if known else len(MODULE_ORDER)
    return module.layer, place, index
