"""The processes of one `accelerate launch`, which share out a piece of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from llgbm.deltas.command import USER_ERROR
from llgbm.deltas.errors import LLGBMError

T = TypeVar("T")
# A process may wait this long for one that has more to do: the default of minutes is for steps of
# a training, where all have as much.
PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """This process among those that work together; alone by default.

    An error that a user can mend, raised in one of them, is raised in all: none waits for ever.

    Args:
        index: of this one; 0 is the main process.
        count: how many there are.
        device: this one's; None where it may choose.
    """

    index: int = 0
    count: int = 1
    device: torch.device | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that prints."""
        return self.index == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every count-th of `items`, beginning at this process's index."""
        return items[self.index :: self.count]

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process and return its result in all of them."""
        result = self.on_each(lambda: work() if self.is_main else None)
        main: T = self.gathered(result)[0]  # type: ignore[assignment]
        return main

    def on_each(self, work: Callable[[], T]) -> T:
        """Do `work` in every process and return this one's result."""
        if self.count == 1:
            return work()
        try:
            result, error = work(), None
        except LLGBMError as caught:
            error = caught
        for other in self.gathered(error):
            if other is not None:
                raise other
        return result

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in their order, in all of them; small ones."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        values: list[T] = gather_object([value])
        return values


def current_processes() -> Processes:
    """Return the processes that `accelerate launch` started; one alone where it did not."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Left to itself, accelerate takes several processes without a GPU for one each.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    # One alone takes the device that a model takes by default.
    device = torch.device("cpu") if on_cpu else state.device
    count = state.num_processes
    return Processes(state.process_index, count, device if count > 1 else None)


@contextmanager
def launched_processes() -> Iterator[Processes]:
    """Yield the processes of this launch, and end them after the block.

    Of an error that all of them raise, the main process alone speaks.
    """
    from accelerate import PartialState

    processes = current_processes()
    try:
        yield processes
    except LLGBMError:
        if processes.count > 1:
            PartialState().destroy_process_group()
        if processes.is_main:
            raise
        raise SystemExit(USER_ERROR) from None
    if processes.count > 1:
        PartialState().destroy_process_group()
