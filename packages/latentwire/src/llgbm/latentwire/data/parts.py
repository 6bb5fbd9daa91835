"""All sources of examples that a config can name; importing them registers them."""

from llgbm.latentwire.data.own import FilesSourceConfig
from llgbm.latentwire.data.sources import (
    KeyValueSourceConfig,
    PretrainingSourceConfig,
    ReadingSourceConfig,
    SquadSourceConfig,
)

PARTS = (
    SquadSourceConfig,
    ReadingSourceConfig,
    FilesSourceConfig,
    PretrainingSourceConfig,
    KeyValueSourceConfig,
)
