"""Meanings of the adapters of one base in a JSON file, beside what their columns mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import CacheError, mismatch
from llgbm.deltas.json_files import read_json

KIND = "meanings"


@dataclass(frozen=True)
class Meanings:
    """What adapters of one base do to fixed continuations after each probe.

    Attributes:
        base_model: name of the base.
        probes: p texts.
        continuations: c texts.
        ids: N names of adapters.
        values: [N, p * c] float32, probe-major, nats per byte.
    """

    base_model: str
    probes: tuple[str, ...]
    continuations: tuple[str, ...]
    ids: tuple[str, ...]
    values: Tensor

    def save(self, path: Path) -> None:
        """Write the file; see `atomic.write_json`."""
        content = {
            "kind": KIND,
            "unit": "nats per byte",
            "base_model": self.base_model,
            "probes": self.probes,
            "continuations": self.continuations,
            "adapters": dict(zip(self.ids, self.values.tolist(), strict=True)),
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Meanings:
        """Read a file of `save`.

        Raises:
            CacheError: no such file, or another content.
        """
        content = read_json(path, CacheError)
        if content.get("kind") != KIND:
            raise CacheError(mismatch(path, "kind", KIND, content.get("kind")))
        probes, continuations = (_texts(path, content, key) for key in ("probes", "continuations"))
        adapters, columns = content.get("adapters"), len(probes) * len(continuations)
        if not isinstance(adapters, dict) or not adapters:
            raise CacheError(mismatch(path, "adapters", "numbers by adapter", adapters))
        try:
            values = torch.tensor(list(adapters.values()), dtype=torch.float32)
        except (TypeError, ValueError) as error:
            raise CacheError(mismatch(path, "adapters", "rows of numbers", error)) from error
        if values.shape != (len(adapters), columns):
            expected = (len(adapters), columns)
            raise CacheError(mismatch(path, "shape", expected, tuple(values.shape)))
        if not values.isfinite().all():
            raise CacheError(mismatch(path, "adapters", "finite numbers", "NaN or Inf"))
        return cls(
            str(content.get("base_model", "")), probes, continuations, tuple(adapters), values
        )


def _texts(path: Path, content: dict[str, Any], key: str) -> tuple[str, ...]:
    texts = content.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise CacheError(mismatch(path, key, "a list of texts", texts))
    return tuple(texts)
