"""The wire: latents as bytes and back, and what a text takes in other ways."""

from llgbm.latentwire.wire.accounting import BytesRow, latent_row, summed, text_rows
from llgbm.latentwire.wire.files import read_latents, write_latents
from llgbm.latentwire.wire.format import Packed, pack, unpack
from llgbm.latentwire.wire.header import SCHEMES
from llgbm.latentwire.wire.identity import compressor_fingerprint

__all__ = [
    "SCHEMES",
    "BytesRow",
    "Packed",
    "compressor_fingerprint",
    "latent_row",
    "pack",
    "read_latents",
    "summed",
    "text_rows",
    "unpack",
    "write_latents",
]
