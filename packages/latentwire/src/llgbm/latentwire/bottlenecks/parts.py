"""All bottlenecks; importing this registers them."""

from llgbm.latentwire.bottlenecks.base import NoBottleneckConfig
from llgbm.latentwire.bottlenecks.finite import FiniteConfig
from llgbm.latentwire.bottlenecks.rounding import RoundingConfig
from llgbm.latentwire.bottlenecks.vector import VectorConfig

PARTS = (NoBottleneckConfig, VectorConfig, FiniteConfig, RoundingConfig)
