"""All embedding transforms that a config can name; importing them registers them."""

from llgbm.latentwire.transforms.anchor_offset import AnchorOffsetTransformConfig
from llgbm.latentwire.transforms.base import NoTransformConfig
from llgbm.latentwire.transforms.batch import BatchTransformConfig
from llgbm.latentwire.transforms.nearest import NearestTransformConfig
from llgbm.latentwire.transforms.rms import RMSTransformConfig
from llgbm.latentwire.transforms.soft_codebook import SoftCodebookTransformConfig

PARTS = (
    NoTransformConfig,
    RMSTransformConfig,
    BatchTransformConfig,
    NearestTransformConfig,
    AnchorOffsetTransformConfig,
    SoftCodebookTransformConfig,
)
