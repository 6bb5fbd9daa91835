"""Checkpoints of many runs that nobody has to train: descents towards one target, with noise."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

# Of a run's own direction beside the target that all runs share.
NOISE = 0.3


def write_runs(folder: Path, runs: int, steps: int, blocks: int, side: int, seed: int) -> int:
    """Write FOLDER/RUN/step_N.safetensors with metrics that are functions of the weights.

    Args:
        folder: made where missing.
        runs: trainings.
        steps: checkpoints of each.
        blocks: of a checkpoint, side x side numbers each.
        side: of a block.
        seed: of everything random.

    Returns:
        Bytes written, without metrics.
    """
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(blocks, side, side, generator=generator)
    written = 0
    for run in range(runs):
        own = torch.randn(blocks, side, side, generator=generator)
        lr = 10 ** float(torch.rand((), generator=generator) - 1.5)
        path = folder / f"run_{run:04d}"
        path.mkdir(parents=True)
        noted = {}
        for step in range(1, steps + 1):
            way = 1 - (1 - lr) ** step
            weights = way * (target + NOISE * own)
            save_file(
                {f"block.{index:03d}.weight": weights[index].clone() for index in range(blocks)},
                path / f"step_{step}.safetensors",
            )
            written += weights.nbytes
            noted[str(step)] = {
                "gain": -float((weights - target).square().mean()),
                "retention": -float(weights.square().mean()),
            }
        content = {"hyperparameters": {"lr": lr}, "steps": noted}
        (path / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    return written
