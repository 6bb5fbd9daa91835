"""`llgbm-latentwire bytes`: what latents take, beside every other way to send the same texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tyro.conf import Positional

from llgbm.deltas.atomic import write_json
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.commands.evaluate import slots_in_words, wire_packers
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import shown_name
from llgbm.latentwire.training.files import (
    RunFiles,
    check_output,
    load_compressor,
    read_settings,
)
from llgbm.latentwire.wire.accounting import BytesRow, latent_row, summed, text_rows
from llgbm.latentwire.wire.header import SCHEMES

KIND, SCHEMA = "latentwire bytes", 1


@dataclass(frozen=True)
class BytesConfig:
    """Count bytes of a run's latents for the contexts of held-out questions.

    Args:
        run: folder of the run.
        texts: at most so many contexts.
        split: `validation` or `test`.
        schemes: that latents are packed by.
        out: results; RUN/bytes.json where not given.
    """

    run: Positional[Path]
    texts: int = 32
    split: str = "test"
    schemes: tuple[str, ...] = ("fp16", "int8", "int6", "int4")
    out: Path | None = None

    def __post_init__(self) -> None:
        require_at_least(1, texts=self.texts)
        wrong = [name for name in self.schemes if name not in SCHEMES]
        if wrong or not self.schemes:
            raise ConfigError(
                f"schemes: expected some of {', '.join(SCHEMES)}, got {', '.join(wrong) or 'none'}"
            )


def count_bytes(config: BytesConfig) -> list[BytesRow]:
    """Pack the latents, code the texts, print a row a way and write them; sums over the texts.

    Raises:
        RunError: no trained run there, or `out` is one of its files.
        ConfigError: an unknown scheme or split.
        MissingPackageError: Zstandard is not installed; says the pip line.
    """
    settings = read_settings(RunFiles(config.run))
    out = config.out or config.run / "bytes.json"
    check_output(out, config.run)
    compressor, reader = load_compressor(config.run)
    compressor.eval()
    packers = wire_packers(compressor, reader, config.schemes)
    asked = settings.stages[-1].data.open(settings.seed).questions(config.split)
    texts = list(dict.fromkeys(example.context for example in asked))[: config.texts]
    found: dict[str, list[BytesRow]] = {}
    with torch.no_grad():
        for text in tqdm(texts, desc="bytes", unit="text", leave=False):
            row = compressor.encode([text]).row(0)
            latents = [latent_row(pack(row), text) for pack in packers.values()]
            for each in [*text_rows(reader, text), *latents]:
                found.setdefault(each.name, []).append(each)
    rows = [summed(each) for each in found.values()]
    for each in rows:
        print(f"{each.name:<24}{each.total / len(texts):>12.1f} bytes{each.ratio:>10.3f}x")
    name = shown_name(settings.reader)
    scale = f"{name}, {len(texts)} {config.split} contexts, {slots_in_words(compressor)}"
    print(f"{scale}; ratio is of UTF-8 bytes")
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": KIND,
        "scale": scale,
        "texts": len(texts),
        "environment": environment(0, reader.device, reader.dtype),
        "rows": {each.name: {**asdict(each), "total": each.total} for each in rows},
    }
    write_json(out, content)
    return rows
