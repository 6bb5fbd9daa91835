"""A sideways VAE on disk: networks, basis, and which collection and runs it was fitted to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cattrs
from torch import Tensor

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.errors import LLGBMError, RunError, mismatch
from llgbm.deltas.module_files import (
    CONFIG,
    check_pair,
    fill_module,
    read_module_config,
    write_module,
)
from llgbm.deltas.tensor_state import read_tensors
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.collection.records import Block
from llgbm.generators.sideways.collection.split import RunSplit
from llgbm.generators.sideways.model.basis import BlockBasis
from llgbm.generators.sideways.model.config import SidewaysSizes
from llgbm.generators.sideways.model.sideways_vae import SidewaysVAE
from llgbm.generators.sideways.model.table import CheckpointTable

FORMAT, KIND = 2, "sideways vae"
TENSORS, BASIS = "sideways.safetensors", "basis.safetensors"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class SidewaysModel:
    """A fitted latent space with all that it is about.

    Attributes:
        folder: where it lies.
        vae: networks, in evaluation mode.
        basis: between latents and weights.
        metrics: names.
        hyperparameters: names.
        split: of the collection's runs.
        collection: that it was fitted to.
    """

    folder: Path
    vae: SidewaysVAE
    basis: BlockBasis
    metrics: tuple[str, ...]
    hyperparameters: tuple[str, ...]
    split: RunSplit
    collection: Collection

    def table(self, part: str) -> CheckpointTable:
        """Numbers of a part's checkpoints: `train`, `validation` or `test`."""
        places = self.split.places(self.collection, part)
        return CheckpointTable.of(self.basis, self.collection, places)

    @cached_property
    def train_table(self) -> CheckpointTable:
        """Numbers of the training runs' checkpoints."""
        return self.table("train")

    def centres(self, table: CheckpointTable) -> Tensor:
        """Latents [n, z] of checkpoints."""
        return self.vae.encode(table.coefficients, table.statistics).detach()

    def weights(self, z: Tensor) -> dict[str, Tensor]:
        """Blocks [n, ...] by name of latents [n, z]."""
        return self.basis.write(self.vae.decode(z))

    def metric(self, name: str) -> int:
        """Place of a metric.

        Raises:
            RunError: there is none of that name.
        """
        if name not in self.metrics:
            raise RunError(mismatch(self.folder, "metric", f"one of {list(self.metrics)}", name))
        return self.metrics.index(name)


def save_sideways(model: SidewaysModel, sizes: SidewaysSizes, training: Mapping[str, Any]) -> None:
    """Write all files, config.json last but one, each atomically."""
    basis = model.basis
    tensors = {f"mean/{name}": value for name, value in basis.mean.items()}
    tensors |= {f"directions/{name}": value for name, value in basis.directions.items()}
    save_tensors(model.folder / BASIS, {**tensors, "inverse": basis.inverse})
    description = {
        "format": FORMAT,
        "kind": KIND,
        "sizes": asdict(sizes),
        "k": basis.k,
        "blocks": [asdict(block) for block in basis.blocks],
        "metrics": list(model.metrics),
        "hyperparameters": list(model.hyperparameters),
    }
    metadata = {
        "collection": os.path.relpath(model.collection.folder, model.folder),
        "collection_fingerprint": model.collection.fingerprint,
        "split": asdict(model.split),
        "training": dict(training),
    }
    write_module(model.vae, model.folder, TENSORS, description, metadata)


def load_sideways(folder: Path) -> SidewaysModel:
    """Read what `save_sideways` wrote, and open its collection.

    Raises:
        RunError: missing, damaged or half-written files, or a collection that is gone or changed.
    """
    file = folder / CONFIG
    content, metadata = read_module_config(folder, "llgbm sideways train")
    found = (content.get("format"), content.get("kind"))
    if found != (FORMAT, KIND):
        raise RunError(mismatch(file, "format and kind", (FORMAT, KIND), found))
    try:
        sizes = _CONVERTER.structure(content["sizes"], SidewaysSizes)
        blocks = _CONVERTER.structure(content["blocks"], tuple[Block, ...])
        metrics = _CONVERTER.structure(content["metrics"], tuple[str, ...])
        numbers = _CONVERTER.structure(content["hyperparameters"], tuple[str, ...])
        split = _CONVERTER.structure(metadata["split"], RunSplit)
        k, collected = int(content["k"]), Path(metadata["collection"])
    except (KeyError, TypeError, LLGBMError, cattrs.BaseValidationError) as error:
        raise RunError(f"{file}: expected a sideways VAE, got {error}") from error
    check_pair(folder / TENSORS, content)
    vae = SidewaysVAE(sizes, len(blocks), k, len(metrics), len(numbers))
    fill_module(vae, folder / TENSORS)
    collection = Collection.read(Path(os.path.normpath(folder / collected)))
    if (collection.metrics, collection.hyperparameters) != (metrics, numbers):
        raise RunError(mismatch(collection.folder, "metrics", metrics, collection.metrics))
    same = metadata.get("collection_fingerprint") == collection.fingerprint
    runs = {run for part in (split.train, split.validation, split.test) for run in part}
    if not same or runs != set(collection.runs) or collection.blocks != blocks:
        raise RunError(
            f"{collection.folder}: expected the checkpoints that {folder} was fitted to, got "
            "others: train again"
        )
    basis = _read_basis(folder / BASIS, blocks, k)
    return SidewaysModel(folder, vae.eval(), basis, metrics, numbers, split, collection)


def _read_basis(path: Path, blocks: tuple[Block, ...], k: int) -> BlockBasis:
    tensors = read_tensors(path)
    expected: dict[str, tuple[int, ...]] = {"inverse": (len(blocks), k, k)}
    for block in blocks:
        expected[f"mean/{block.name}"] = block.shape
        expected[f"directions/{block.name}"] = (k, *block.shape)
    for name, shape in expected.items():
        got = tuple(tensors[name].shape) if name in tensors else "nothing"
        if got != shape:
            raise RunError(mismatch(path, name, shape, got))
        if not tensors[name].isfinite().all():
            raise RunError(f"{path}: {name}: expected finite values, got NaN or Inf")
    return BlockBasis(
        blocks,
        {block.name: tensors[f"mean/{block.name}"] for block in blocks},
        {block.name: tensors[f"directions/{block.name}"] for block in blocks},
        tensors["inverse"],
    )
