"""Every encoder that configs can name."""

from llgbm.latentwire.encoders.byte import ByteEncoderConfig
from llgbm.latentwire.encoders.cache import CacheEncoderConfig
from llgbm.latentwire.encoders.embeddings import EmbeddingsEncoderConfig
from llgbm.latentwire.encoders.interlingua import InterlinguaEncoderConfig
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.encoders.sentence import STQueryEncoderConfig
from llgbm.latentwire.encoders.simple import SimpleEncoderConfig

PARTS = (
    PretrainedEncoderConfig,
    CacheEncoderConfig,
    ByteEncoderConfig,
    STQueryEncoderConfig,
    SimpleEncoderConfig,
    InterlinguaEncoderConfig,
    EmbeddingsEncoderConfig,
)
