"""All ways into a reader; importing this registers them."""

from llgbm.latentwire.ways.cache import CacheWayConfig
from llgbm.latentwire.ways.coprocessor import CoprocessorWayConfig
from llgbm.latentwire.ways.deep_prefix import DeepPrefixWayConfig
from llgbm.latentwire.ways.embeddings import EmbeddingsWayConfig
from llgbm.latentwire.ways.heads import HeadsWayConfig
from llgbm.latentwire.ways.inner import InnerWayConfig
from llgbm.latentwire.ways.lora import LoRAWayConfig

PARTS = (
    EmbeddingsWayConfig,
    DeepPrefixWayConfig,
    CacheWayConfig,
    HeadsWayConfig,
    LoRAWayConfig,
    InnerWayConfig,
    CoprocessorWayConfig,
)
