"""Every adapter that configs can name."""

from llgbm.latentwire.adapters.colour import ColourAdapterConfig
from llgbm.latentwire.adapters.film import FiLMAdapterConfig
from llgbm.latentwire.adapters.interlingua import InterlinguaAdapterConfig
from llgbm.latentwire.adapters.linear import LinearAdapterConfig
from llgbm.latentwire.adapters.residual_mlp import ResidualMLPAdapterConfig

PARTS = (
    LinearAdapterConfig,
    ResidualMLPAdapterConfig,
    FiLMAdapterConfig,
    InterlinguaAdapterConfig,
    ColourAdapterConfig,
)
