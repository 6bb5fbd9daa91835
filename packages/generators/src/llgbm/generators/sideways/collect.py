"""`llgbm sideways collect`: checkpoints of many runs with what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.errors import SettingError
from llgbm.generators.runs import RunFolder
from llgbm.generators.sideways.adapters.collect import collect_adapters
from llgbm.generators.sideways.adapters.source import AdapterRuns, AdapterWorld
from llgbm.generators.sideways.adapters.taught import collect_taught
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.collection.from_folders import FolderSource, collect_folders


@dataclass(frozen=True)
class CollectConfig:
    """Collect checkpoints: of a folder of yours, of `llgbm teach`, or of runs taught here.

    Args:
        out: folder of the collection. One of adapter runs that was interrupted is gone on with.
        files: checkpoints that are there already.
        taught: run folder of `llgbm teach --keep-every`, whose teachers of `adapters.task` are
            measured, with the checkpoints of their way.
        adapters: runs to teach, where neither is given.
    """

    out: Annotated[Path, tyro.conf.Positional]
    files: FolderSource = field(default_factory=FolderSource)
    taught: Path | None = None
    adapters: AdapterRuns = field(default_factory=AdapterRuns)

    def __post_init__(self) -> None:
        if self.files.folder is None and self.files != FolderSource():
            raise SettingError("files.folder: expected a folder of runs beside other --files words")
        if self.files.folder is not None and self.taught is not None:
            raise SettingError(f"taught: expected none beside files.folder, got {self.taught}")


def collect(config: CollectConfig) -> Collection:
    """Collect and print what is there.

    Raises:
        RunError: checkpoints that do not fit each other, or nothing to learn from them.
    """
    if config.files.folder is not None:
        made = collect_folders(config.out, config.files)
    elif config.taught is not None:
        made = collect_taught(config.out, RunFolder(config.taught), config.adapters)
    else:
        made = collect_adapters(config.out, AdapterWorld.of(config.adapters))
    numbers = sum(block.numel for block in made.blocks)
    print(
        f"{config.out}: {len(made.checkpoints)} checkpoints of {len(made.runs)} runs, "
        f"{len(made.blocks)} blocks of {numbers:,} numbers; metrics {', '.join(made.metrics)}; "
        f"next: llgbm sideways train {config.out}"
    )
    return made
