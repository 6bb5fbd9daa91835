"""`llgbm sideways predict`: metrics of checkpoints from their weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.peft_format import load_adapter
from llgbm.generators.sideways.adapters.blocks import to_blocks
from llgbm.generators.sideways.adapters.source import KIND
from llgbm.generators.sideways.agreement import Agreement, agreements
from llgbm.generators.sideways.baselines import BASELINES
from llgbm.generators.sideways.collection.checkpoint_files import read_checkpoint
from llgbm.generators.sideways.collection.from_folders import chosen_blocks
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways

OURS = "sideways"


@dataclass(frozen=True)
class PredictConfig:
    """Predict metrics of unseen runs, beside baselines, or of files.

    Args:
        model: folder that `llgbm sideways train` made.
        checkpoints: files or PEFT folders; the collection's test runs where none are given, with
            what was measured of them.
    """

    model: Annotated[Path, tyro.conf.Positional]
    checkpoints: tuple[Path, ...] = ()


def predict(config: PredictConfig) -> None:
    """Print predictions; of test runs, how they agree with what was measured.

    Raises:
        RunError: no model, or a checkpoint that does not fit it.
    """
    model = load_sideways(config.model)
    if config.checkpoints:
        for path in config.checkpoints:
            mean, error = predict_file(model, path)
            said = ", ".join(f"{name} {mean[name]:.3f} ± {error[name]:.3f}" for name in mean)
            print(f"{path}: {said}")
        return
    found = agreement_on_test_runs(model)
    print(agreement_table(found))
    note_result(config.model, "predict", {
        "test_runs": list(model.split.test),
        "agreement": {row: {k: asdict(v) for k, v in each.items()} for row, each in found.items()},
    })  # fmt: skip


def predict_file(model: SidewaysModel, path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of one checkpoint file and their standard errors.

    Raises:
        RunError: a file that is damaged or has other blocks.
    """
    if model.collection.source.get("kind") == KIND and path.is_dir():
        adapter = load_adapter(path)
        alpha = model.collection.source["runs"]["lora_alpha"]
        if adapter.spec.lora_alpha != alpha:
            raise RunError(mismatch(path, "lora_alpha", alpha, adapter.spec.lora_alpha))
        tensors = to_blocks(adapter, 0)
    else:
        tensors = dict(read_checkpoint(path).tensors)
    blocks = chosen_blocks(tensors, model.basis.blocks, path, model.collection.folder)
    coefficients, statistics = model.basis.read(blocks)
    with torch.no_grad():
        z = model.vae.encode(coefficients[None], statistics[None])
        mean, error = model.vae.predict(z)
    return (
        dict(zip(model.metrics, mean[0].tolist(), strict=True)),
        dict(zip(model.metrics, error[0].tolist(), strict=True)),
    )


def agreement_on_test_runs(model: SidewaysModel) -> dict[str, dict[str, Agreement]]:
    """Agreement on the test runs, ours and every baseline's, by metric."""
    asked, train = model.table("test"), model.train_table
    with torch.no_grad():
        ours = model.vae.predict(model.centres(asked))[0]
    scale = model.vae.metric_scale
    rows = {OURS: ours, **{name: each(train, asked, scale) for name, each in BASELINES.items()}}
    return {
        name: agreements(predicted, asked.metrics, model.metrics, scale)
        for name, predicted in rows.items()
    }


def agreement_table(found: Mapping[str, Mapping[str, Agreement]]) -> str:
    """Rows of R², that of bent metrics, rank correlation and mean absolute error."""
    metrics = list(next(iter(found.values())))
    width = max(map(len, found))
    lines = [
        f"{'':<{width}}" + "".join(f"  {name + ': R2, bent, rank, error':>36}" for name in metrics)
    ]
    for row, each in found.items():
        cells = ""
        for name in metrics:
            ranks = each[name].rank_correlation
            said = "-" if ranks is None else f"{ranks:.3f}"
            cells += (
                f"  {each[name].r2:12.3f}  {each[name].r2_bent:6.3f}  {said:>6}  "
                f"{each[name].error:6.3f}"
            )
        lines.append(f"{row:<{width}}{cells}")
    return "\n".join(lines)
