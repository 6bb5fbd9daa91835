"""Where checkpoints lie among the training checkpoints' latents, in two dimensions."""

from __future__ import annotations

from sklearn.decomposition import PCA

from llgbm.generators.sideways.experiment.results import LatentPoint
from llgbm.generators.sideways.model.files import SidewaysModel
from llgbm.generators.sideways.report.plots import PARTS


def latent_points(model: SidewaysModel) -> tuple[LatentPoint, ...]:
    """Every checkpoint, part after part."""
    centres = {part: model.centres(model.table(part)).double().numpy() for part in PARTS}
    fitted = PCA(min(2, centres["train"].shape[1])).fit(centres["train"])
    points = []
    for part, latents in centres.items():
        places = model.split.places(model.collection, part)
        for place, at in zip(places, fitted.transform(latents).tolist(), strict=True):
            metrics = model.collection.checkpoints[place].metrics
            points.append(LatentPoint(part, at[0], at[1] if len(at) > 1 else 0.0, metrics))
    return tuple(points)
