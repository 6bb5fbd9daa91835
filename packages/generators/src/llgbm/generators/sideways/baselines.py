"""What predicts metrics without a latent space: the mean, and ridges on simple numbers.

Ridges are fitted to metrics as our networks are, bent and standardised.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from llgbm.generators.sideways.model.metric_scale import MetricScale
from llgbm.generators.sideways.model.table import CheckpointTable

ALPHAS = np.logspace(-2, 5, 15)
MOST_FOLDS = 5


def mean_metrics(train: CheckpointTable, asked: CheckpointTable, scale: MetricScale) -> Tensor:
    """The training checkpoints' mean, [n, m]."""
    return train.metrics.mean(0).expand(len(asked.runs), -1)


def ridge_on_statistics(
    train: CheckpointTable, asked: CheckpointTable, scale: MetricScale
) -> Tensor:
    """A ridge on every block's norms, [n, m]; its strength is chosen across training runs."""
    return _ridge(train, train.statistics.flatten(1), asked.statistics.flatten(1), scale)


def ridge_on_settings(train: CheckpointTable, asked: CheckpointTable, scale: MetricScale) -> Tensor:
    """A ridge on hyperparameters, time and their products, [n, m]: no weights are looked at."""
    return _ridge(train, _settings(train), _settings(asked), scale)


def _settings(table: CheckpointTable) -> Tensor:
    times, numbers = table.time[:, None], table.hyperparameters
    return torch.cat([times, (times + 1e-3).log(), numbers, numbers * times], dim=1)


def _ridge(train: CheckpointTable, seen: Tensor, asked: Tensor, scale: MetricScale) -> Tensor:
    runs = np.array(train.runs)
    folds = GroupKFold(min(MOST_FOLDS, len(set(train.runs)))) if len(set(train.runs)) > 1 else None
    splits = None if folds is None else list(folds.split(runs, groups=runs))
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=splits))
    model.fit(seen.double().numpy(), scale(train.metrics).double().numpy())
    found = model.predict(asked.double().numpy()).reshape(len(asked), -1)
    return scale.back(torch.from_numpy(found).float())


BASELINES = {
    "mean": mean_metrics,
    "ridge on weight statistics": ridge_on_statistics,
    "ridge on hyperparameters and step": ridge_on_settings,
}
