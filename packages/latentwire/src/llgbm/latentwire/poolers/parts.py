"""All poolers that a config can name; importing them registers them."""

from llgbm.latentwire.poolers.attention import AttentionPoolerConfig
from llgbm.latentwire.poolers.convolution import ConvolutionPoolerConfig
from llgbm.latentwire.poolers.expand import ExpandPoolerConfig
from llgbm.latentwire.poolers.heads import HeadsPoolerConfig
from llgbm.latentwire.poolers.hierarchical import HierarchicalPoolerConfig
from llgbm.latentwire.poolers.last import LastPoolerConfig
from llgbm.latentwire.poolers.mean import MeanPoolerConfig
from llgbm.latentwire.poolers.pca import PCAPoolerConfig
from llgbm.latentwire.poolers.pca_refined import RefinedPCAPoolerConfig
from llgbm.latentwire.poolers.queries import PooledQueriesConfig
from llgbm.latentwire.poolers.select import SelectPoolerConfig

PARTS = (
    PooledQueriesConfig,
    AttentionPoolerConfig,
    HierarchicalPoolerConfig,
    ConvolutionPoolerConfig,
    ExpandPoolerConfig,
    MeanPoolerConfig,
    LastPoolerConfig,
    SelectPoolerConfig,
    HeadsPoolerConfig,
    PCAPoolerConfig,
    RefinedPCAPoolerConfig,
)
