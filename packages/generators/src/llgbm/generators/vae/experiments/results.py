"""Results of a VAE experiment: one writer, one reader, one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas.atomic import write_json
from llgbm.generators.evaluation.result_json import read_result
from llgbm.generators.vae.experiments.layers import LayersFound
from llgbm.generators.vae.experiments.measure import Row
from llgbm.generators.vae.experiments.ways import Way

SCHEMA, KIND = 2, "vae"


@dataclass(frozen=True)
class LatentFound:
    """What a trained VAE's latent holds, on teachers that it has not seen.

    Attributes:
        folder: of the VAE, in the run's `generators`.
        numbers: of the latent.
        parameters: trained.
        seconds: of training steps.
        kl: nats, None where nothing is told apart.
        kl_by_unit: the same number by number, largest first; empty where it is not told apart so.
        mutual_information: nats that z tells of which adapter it is.
        active_units: share of the numbers that vary.
        codes_used: share of the codebook that the seen tasks' teachers have, None where there is
            none.
        code_perplexity: of the same.
        code_task_information: adjusted mutual information of code and task over the same.
        codes_by_task: task -> code -> how often its teachers have it.
        silhouette: of the centres by task.
        diversity: mean over conditions of 1 - cosine between updates of samples for one condition.
        layers: what the codes of layers do; None for a flat latent.
    """

    folder: str
    numbers: int
    parameters: int
    seconds: float
    kl: float | None
    kl_by_unit: tuple[float, ...]
    mutual_information: float | None
    active_units: float
    codes_used: float | None
    code_perplexity: float | None
    code_task_information: float | None
    codes_by_task: Mapping[str, Mapping[str, int]]
    silhouette: float | None
    diversity: float
    layers: LayersFound | None


@dataclass(frozen=True)
class LatentMap:
    """Centres of teachers in two dimensions.

    Attributes:
        kind: `PCA` or `t-SNE`.
        points: (x, y) of each teacher.
        tasks: of each.
        splits: of each: `trained`, `held_out` or `validation_family`.
    """

    kind: str
    points: tuple[tuple[float, float], ...]
    tasks: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class VAEResults:
    """What a VAE experiment found.

    Attributes:
        name: of the experiment.
        question: that it asks.
        scale: in words.
        environment: commit, versions, device, seed.
        latents: variant -> what its latent holds.
        rows: split (`held_out`: teachers of tasks trained on; `validation_family`) -> stand-in ->
            row. A variant stands as `VARIANT` (rebuilt) and `VARIANT, written` (from prompts).
        ways: kind of way between tasks -> what lies on it, for the first variant; of others
            with `, VARIANT` behind the kind.
        maps: pictures of the first variant's latent.
    """

    name: str
    question: str
    scale: str
    environment: Mapping[str, Any]
    latents: Mapping[str, LatentFound]
    rows: Mapping[str, Mapping[str, Row]]
    ways: Mapping[str, Way]
    maps: tuple[LatentMap, ...]

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, {"schema": SCHEMA, "kind": KIND, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> VAEResults:
        """Read and check a file.

        Raises:
            RunError: missing, malformed or of another kind.
        """
        return read_result(path, cls, SCHEMA, KIND, "a VAE experiment's results")


def vae_table(results: VAEResults) -> str:
    """Rows of every split, then what the latents hold, as aligned text."""
    lines = []
    for split, rows in results.rows.items():
        head = ("ΔW cosine", "delta", "held-out", "accuracy", "- teacher", "above base")
        lines.append(f"\n{split:<34}" + "".join(f"{word:>11}" for word in head))
        for name, row in rows.items():
            numbers = (
                row.update_cosine.mean,
                row.delta_cosine.mean,
                row.held_out_delta_cosine.mean,
                row.accuracy.mean,
                row.over_teacher.mean,
            )
            cells = "".join(f"{number:>11.3f}" for number in numbers)
            lines.append(f"{name:<34}{cells}{row.tasks_above_base:>11}")
    words = ("numbers", "KL", "MI", "active", "codes", "silhouette", "diversity")
    lines.append(f"\n{'latent':<34}" + "".join(f"{word:>11}" for word in words))
    for name, found in results.latents.items():
        values = (
            found.kl,
            found.mutual_information,
            found.active_units,
            found.codes_used,
            found.silhouette,
            found.diversity,
        )
        cells = "".join(f"{'-':>11}" if v is None else f"{v:>11.3f}" for v in values)
        lines.append(f"{name:<34}{found.numbers:>11}{cells}")
    if results.ways:
        columns = ("midpoint", "- straight", "uneven", "detour")
        lines.append(f"\n{'way between tasks':<34}" + "".join(f"{word:>11}" for word in columns))
    for name, way in results.ways.items():
        ends = (way.midpoint.mean, way.over_straight.mean, way.unevenness, way.detour)
        lines.append(f"{name:<34}" + "".join(f"{number:>11.3f}" for number in ends))
    return "\n".join(lines)
