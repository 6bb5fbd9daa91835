"""The loss of two readers: the mean of each one's own, over the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.two_readers.compressor import SharedCompressor
from llgbm.latentwire.two_readers.layout import READERS
from llgbm.latentwire.two_readers.view import View


class SharedObjective(nn.Module):
    """One objective a reader, of the same terms; heads, gates and schedules are its own.

    Args:
        configs: of the terms.
        compressor: being trained.

    Raises:
        ConfigError: see `Objective`.
    """

    def __init__(self, configs: Sequence[Any], compressor: SharedCompressor) -> None:
        super().__init__()
        self.readers = nn.ModuleDict(
            {
                name: Objective(configs, View(compressor, name), compressor.readers[name])
                for name in READERS
            }
        )

    def contributions(
        self, steps: Mapping[str, Step]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """What every term of every reader adds to the loss of a step, and what to log.

        Args:
            steps: by reader, of the same examples.

        Returns:
            (values, log): by READER/TERM and READER/NUMBER; a value is half of what the reader's
            own objective would add.
        """
        values: dict[str, Tensor] = {}
        log: dict[str, float] = {}
        for name in READERS:
            found, numbers = self._of(name).contributions(steps[name])
            values |= {f"{name}/{term}": value / len(READERS) for term, value in found.items()}
            log |= {f"{name}/{key}": number for key, number in numbers.items()}
        return values, log

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know beside parameters and buffers."""
        return {name: self._of(name).state() for name in READERS}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        for name in READERS:
            self._of(name).restore(state[name])

    def _of(self, name: str) -> Objective:
        return cast(Objective, self.readers[name])
