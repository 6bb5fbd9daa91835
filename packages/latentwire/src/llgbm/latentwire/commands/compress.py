"""`llgbm-latentwire compress`: a document as a latent file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tyro.conf import Positional

from llgbm.latentwire.commands.codec import open_codec
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.training.files import check_output
from llgbm.latentwire.wire.accounting import latent_row, text_rows
from llgbm.latentwire.wire.files import write_latents


@dataclass(frozen=True)
class CompressConfig:
    """Compress a text file into latents that `answer` reads.

    Args:
        file: UTF-8 text.
        run: trained run whose compressor is used, for one reader or two.
        out: latent file (.lw).
        scheme: `fp16`, `int8`, `int6`, `int4`, or `codes` for a compressor with codebooks.
        account: print bytes beside those of UTF-8, gzip, zstd, token ids and the model's own
            arithmetic code (which runs the reader over the text).
    """

    file: Positional[Path]
    run: Path
    out: Path
    scheme: str = "int8"
    account: bool = True


def compress(config: CompressConfig) -> Path:
    """Write the latent file; nothing is written where anything fails.

    Raises:
        PromptError: the file cannot be read, is empty, is `out` too, or is longer than the encoder
            or, for the account, the reader reads.
        RunError: no trained run, or `out` is one of its files.
    """
    text = read_text(config.file)
    if config.out.resolve() == config.file.resolve():
        raise PromptError(f"{config.out}: expected another file than the text, got the same")
    check_output(config.out, config.run)
    codec = open_codec(config.run)
    reader = codec.reader
    with torch.no_grad():
        latents = codec.encode([text])
    # Before anything is written: a text may be too long for the reader and not for the encoder.
    others = text_rows(reader, text) if config.account else []
    size = write_latents(
        config.out,
        latents.row(0),
        config.scheme,
        reader=codec.readers_fingerprint,
        compressor=codec.fingerprint,
        bottleneck=codec.bottleneck,
    )
    tokens, slots = len(reader.tokens(text)), int(latents.counts[0])
    print(f"{config.out}: {tokens} tokens in {slots} slots, {size} bytes ({config.scheme})")
    if config.account:
        for row in [*others, latent_row(config.out.read_bytes(), text)]:
            print(f"  {row.name:<24}{row.total:>10} bytes{row.ratio:>10.2f}x")
    return config.out


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        PromptError: missing, no UTF-8, or without a word.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: expected a UTF-8 text file, got: {error}") from error
    if not text.strip():
        raise PromptError(f"{path}: expected text, got none")
    return text.strip()
