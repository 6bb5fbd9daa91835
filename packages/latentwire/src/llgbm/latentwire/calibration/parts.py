"""All calibrations that a config can name; importing them registers them."""

from llgbm.latentwire.calibration.base import NoCalibrationConfig
from llgbm.latentwire.calibration.batch import BatchCalibrationConfig
from llgbm.latentwire.calibration.channel import ChannelCalibrationConfig
from llgbm.latentwire.calibration.embedding_rms import EmbeddingRMSCalibrationConfig
from llgbm.latentwire.calibration.prefix_gain import PrefixGainCalibrationConfig

PARTS = (
    NoCalibrationConfig,
    EmbeddingRMSCalibrationConfig,
    BatchCalibrationConfig,
    PrefixGainCalibrationConfig,
    ChannelCalibrationConfig,
)
