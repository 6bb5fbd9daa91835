"""All latent refiners; importing this registers them."""

from llgbm.latentwire.refiners.base import NoRefinerConfig
from llgbm.latentwire.refiners.transformer import TransformerRefinerConfig

PARTS = (NoRefinerConfig, TransformerRefinerConfig)
