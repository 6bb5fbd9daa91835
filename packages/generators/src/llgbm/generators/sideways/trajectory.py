"""`llgbm sideways trajectory`: where training would go from a checkpoint, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from llgbm.deltas.errors import SettingError, require_at_least
from llgbm.generators.sideways.explore.paths import latent_of, place_of
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways


@dataclass(frozen=True)
class TrajectoryConfig:
    """Predict metrics along a training.

    Args:
        model: folder that `llgbm sideways train` made.
        start: RUN/STEP of the collection, or RUN for its first step.
        hyperparameters: NAME=VALUE of others than the run's own.
        points: of the way, the start among them; the steps of the collection's runs where 0.
    """

    model: Annotated[Path, tyro.conf.Positional]
    start: Annotated[str, tyro.conf.Positional]
    hyperparameters: tuple[str, ...] = ()
    points: int = 0

    def __post_init__(self) -> None:
        if self.points:
            require_at_least(2, points=self.points)


def trajectory(config: TrajectoryConfig) -> None:
    """Print predictions, beside what was measured where the run's own settings are asked about.

    Raises:
        SettingError: an unknown checkpoint or hyperparameter, or one after which nothing comes.
    """
    model = load_sideways(config.model)
    runs = model.collection.runs
    place = runs[config.start][0] if config.start in runs else place_of(model, config.start)
    record = model.collection.checkpoints[place]
    numbers = read_numbers(model, config.hyperparameters, record.hyperparameters)
    steps = later_steps(model, record.step, config.points)
    rows = trajectory_rows(model, place, numbers, steps)
    print(_table(model, rows))
    note_result(config.model, "trajectory", {
        "start": f"{record.run}/{record.step}", "hyperparameters": numbers, "points": rows,
        "seen": record.run in model.split.train,
    })  # fmt: skip


def trajectory_rows(
    model: SidewaysModel, place: int, numbers: Mapping[str, float], steps: list[int]
) -> list[dict[str, Any]]:
    """Step, predicted metrics, their standard errors, and what was measured there or None.

    Args:
        model: that predicts.
        place: of the checkpoint that the way begins at, in the collection.
        numbers: hyperparameters of the way; measured are those of the run's own.
        steps: of the points; the first is the checkpoint's.
    """
    record = model.collection.checkpoints[place]
    mean, error = predicted_metrics(model, latent_of(model, place), numbers, steps)
    own = {
        each.step: dict(each.metrics)
        for each in map(model.collection.checkpoints.__getitem__, model.collection.runs[record.run])
    }
    known = own if numbers == dict(record.hyperparameters) else {}
    return [
        {
            "step": step,
            "predicted": dict(zip(model.metrics, mean[row].tolist(), strict=True)),
            "error": dict(zip(model.metrics, error[row].tolist(), strict=True)),
            "measured": known.get(step),
        }
        for row, step in enumerate(steps)
    ]


def read_numbers(model: SidewaysModel, words: tuple[str, ...], own: Any) -> dict[str, float]:
    """The run's hyperparameters with those of words NAME=VALUE in place of some.

    Raises:
        SettingError: unknown names, or values that are no finite numbers.
    """
    found = dict(own)
    for word in words:
        name, _, value = word.partition("=")
        if name not in found:
            raise SettingError(f"hyperparameters: expected one of {list(found)}, got {name!r}")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise SettingError(f"hyperparameters: expected {name}=NUMBER, got {word!r}") from error
        if not abs(found[name]) < float("inf"):
            raise SettingError(f"hyperparameters: expected a finite number, got {word!r}")
    return found


def later_steps(model: SidewaysModel, start: int, points: int) -> list[int]:
    """Steps from `start` to the end of the longest run.

    Raises:
        SettingError: none comes after it.
    """
    steps = sorted({each.step for each in model.collection.checkpoints if each.step >= start})
    if len(steps) < 2:
        raise SettingError(f"start: expected a step before the last, got {start}")
    if points:
        spread = torch.linspace(start, steps[-1], points).round().int().tolist()
        steps = sorted({int(each) for each in spread})
    return steps


def predicted_metrics(
    model: SidewaysModel, z: Tensor, numbers: Mapping[str, float], steps: list[int]
) -> tuple[Tensor, Tensor]:
    """Metrics [t, m] at steps of a training that begins at latent [1, z], and standard errors."""
    longest = max(each.step for each in model.collection.checkpoints)
    table = torch.tensor([list(numbers.values())]).view(1, -1)
    with torch.no_grad():
        moved = model.vae.dynamics.roll_out(
            z, model.vae.hyperparameter_scale(table), [step / longest for step in steps]
        )
        read, predicted = model.vae.predict(moved[0, :1]), model.vae.predict(moved[0, 1:], True)
    return torch.cat([read[0], predicted[0]]), torch.cat([read[1], predicted[1]])


def _table(model: SidewaysModel, rows: list[dict[str, Any]]) -> str:
    lines = ["  step" + "".join(f"  {m + ': predicted, measured':>32}" for m in model.metrics)]
    for row in rows:
        cells = ""
        for metric in model.metrics:
            real = "-" if row["measured"] is None else f"{row['measured'][metric]:.3f}"
            cells += f"  {row['predicted'][metric]:11.3f} ± {row['error'][metric]:6.3f} {real:>11}"
        lines.append(f"{row['step']:>6}{cells}")
    return "\n".join(lines)
