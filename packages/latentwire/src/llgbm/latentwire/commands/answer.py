"""`llgbm-latentwire answer`: ask a latent file a question."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from tyro.conf import Positional

from llgbm.latentwire.commands.codec import open_codec
from llgbm.latentwire.data.squad import question_ending
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.latents import stack
from llgbm.latentwire.wire.files import read_latents


@dataclass(frozen=True)
class AnswerConfig:
    """Answer a question about a document that only its latents are there of.

    Args:
        latents: file that `compress` wrote.
        question: in words.
        run: trained run that compressed it.
        reader: `first` or `second`, of a run for two readers; the first where not given.
        decoding: how the answer is written.
    """

    latents: Positional[Path]
    question: Positional[str]
    run: Path
    reader: str = ""
    decoding: Annotated[DecodingConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: DecodingConfig(max_new_tokens=32)
    )


def answer(config: AnswerConfig) -> str:
    """Print the answer and return it.

    Raises:
        PromptError: an empty question, or one that is no UTF-8.
        ConfigError: a reader that the run does not have.
        LatentFileError: no latent file, a damaged one, or one of another reader or compressor.
    """
    if not config.question.strip():
        raise PromptError("question: expected text, got none")
    if any("\ud800" <= character <= "\udfff" for character in config.question):
        raise PromptError("question: expected UTF-8, got other bytes")
    codec = open_codec(config.run)
    compressor, reader = codec.end(config.reader)
    packed = read_latents(
        config.latents,
        reader=codec.readers_fingerprint,
        compressor=codec.fingerprint,
        width=codec.width,
    )
    row = packed.row(codec.bottleneck)
    latents = codec.seen(compressor, stack([row.to(reader.device)]))
    with torch.no_grad(), compressor.attached(latents):
        written = write(
            reader,
            compressor.prefix(latents),
            [reader.tokens(question_ending(config.question.strip()))],
            config.decoding,
        )
    print(written.texts[0])
    return written.texts[0]
