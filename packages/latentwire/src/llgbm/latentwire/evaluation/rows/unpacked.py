"""Latents after packing and unpacking: the row that a claim about bytes rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Scheme, Setting
from llgbm.latentwire.evaluation.rows.latents import LatentsRow
from llgbm.latentwire.latents import Latents, stack
from llgbm.latentwire.registry import unknown


@ROWS.register("unpacked")
@dataclass(frozen=True)
class UnpackedRowConfig(RowConfig):
    """Each context as its latents after one scheme's pack and unpack.

    Args:
        scheme: one of the setting's; the row is called `unpacked_SCHEME`.
    """

    scheme: str = "int8"
    bare: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """See `RowConfig.label`."""
        return f"unpacked_{self.scheme}"

    def build(self, setting: Setting) -> UnpackedRow:
        """Build it.

        Raises:
            ConfigError: no compressor, or an unknown scheme.
        """
        if self.scheme not in setting.schemes:
            known = unknown(self.scheme, setting.schemes)
            raise ConfigError(f"row unpacked: scheme: {known}")
        return UnpackedRow(setting, setting.schemes[self.scheme])


class UnpackedRow(LatentsRow):
    """What is left of each text's latents, packed and unpacked text by text."""

    def __init__(self, setting: Setting, scheme: Scheme) -> None:
        super().__init__(setting, "unpacked")
        self.scheme = scheme

    def latents(self, indices: Sequence[int]) -> Latents:
        """See `LatentsRow.latents`."""
        examples = self.setting.examples
        return self.compressor.encode([examples[index].context for index in indices])

    def sent(self, latents: Latents) -> Latents:
        """See `LatentsRow.sent`.

        Raises:
            ConfigError: the scheme gives back another shape.
        """
        rows = [latents.row(index) for index in range(len(latents.values))]
        back = [self.scheme(row) for row in rows]
        for row, other in zip(rows, back, strict=True):
            if row.shape != other.shape:
                raise ConfigError(
                    f"row unpacked: expected {tuple(row.shape)} back, got {tuple(other.shape)}"
                )
        return stack([each.to(rows[0]) for each in back])
