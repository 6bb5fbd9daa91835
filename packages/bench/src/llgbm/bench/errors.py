"""What stops a benchmark before it times anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llgbm.deltas.errors import LLGBMError


class GateError(LLGBMError):
    """A rival gave another result: nothing is timed."""

    def __init__(self, rival: str, allowed: float, dtype: torch.dtype, got: float) -> None:
        super().__init__(
            f"{rival}: relative error: expected at most {allowed:.3g} in {dtype}, got {got:.3g}; "
            "nothing was timed"
        )


class NothingLearnedError(LLGBMError):
    """A fit does not predict what it has not seen: nothing is reported."""

    def __init__(self, least: float, got: float) -> None:
        super().__init__(
            f"R2 on unseen runs: expected at least {least:g}, got {got:.3g}; nothing is reported"
        )


class OtherTokensError(LLGBMError):
    """A way to read a prompt wrote other tokens, or sent other bytes: nothing is timed."""

    def __init__(
        self, rival: str, wanted: str, expected: Sequence[object], got: Sequence[object]
    ) -> None:
        place = next(
            (
                row
                for row, pair in enumerate(zip(expected, got, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(expected), len(got)),
        )
        said = [repr(each[place])[:60] if place < len(each) else "none" for each in (expected, got)]
        super().__init__(
            f"{rival}: expected {wanted}, row {place}: {said[0]}, got {said[1]}; nothing was timed"
        )
