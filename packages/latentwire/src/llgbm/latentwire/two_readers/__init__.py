"""One latent for two readers: shared slots, and private ones that a single reader sees."""

from llgbm.latentwire.two_readers.compressor import SharedCompressor, SharedCompressorConfig
from llgbm.latentwire.two_readers.layout import READERS, SlotLayout
from llgbm.latentwire.two_readers.view import View

__all__ = ["READERS", "SharedCompressor", "SharedCompressorConfig", "SlotLayout", "View"]
