"""Identifiability: which measurements tell a teacher from the rank-1 adversary.

The adversary has the teacher's mean delta over the five generic probes. Each measurement is taken
of it, of another task's teacher and of the base, so that a number stands beside what it means.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.probes import ProbeSet, create_generic_probes
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.probe_readings import ProbeReader, Readings
from llgbm.generators.evaluation.rank_one import match_mean_delta
from llgbm.generators.training.behaviour import delta_cosine


@dataclass(frozen=True)
class Measured:
    """How like a teacher something behaves.

    Attributes:
        mean_cosine: of the mean delta over the generic probes, last layer (Delta Activations).
        layers_cosine: of the generic probes' deltas, the mean over each probe in each of several
            layers, so that the last one does not drown the others.
        held_out_cosine: of the held-out probes' deltas, the mean over probes, last layer.
        held_out_layers_cosine: the same in several layers.
        kl: KL(teacher || it) at every token of the held-out probes, nats.
        score: relative squared error of the generic probes' deltas, one by one in several
            layers, plus their KL over the base's: 0 for the teacher, 2 for the base.
        held_out_score: the same on held-out probes.
    """

    mean_cosine: float
    layers_cosine: float
    held_out_cosine: float
    held_out_layers_cosine: float
    kl: float
    score: float
    held_out_score: float


# Who is measured: the teacher itself, its adversary, another task's teacher, the base.
RIVALS = ("teacher", "rank1", "other_teacher", "base")
Verdicts = dict[str, Measured]


def several_layers(model: nn.Module) -> tuple[int, ...]:
    """The hidden states after a third, two thirds and all of the layers."""
    most = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    return tuple(sorted({max(1, most // 3), max(1, 2 * most // 3), most}))


def identify(
    model: nn.Module, teachers: LoRAWeights, others: LoRAWeights, held_out: ProbeSet
) -> list[Verdicts]:
    """Measure the adversaries of n teachers.

    Args:
        model: frozen base.
        teachers: n adapters.
        others: n adapters of other tasks, one beside each.
        held_out: probes that the adversary did not see.

    Returns:
        For each teacher, rival -> what was measured.
    """
    device = device_of(model)
    generic = create_generic_probes()
    teachers, others = teachers.to(device), others.to(device)
    layers = DeltaSpec(several_layers(model), aggregation="per_probe")
    seen, unseen = (ProbeReader(model, probes, layers) for probes in (generic, held_out))
    mean = ProbeReader(model, generic, DeltaSpec())
    with torch.no_grad():
        targets = mean.behaviour(teachers)
    adversaries = match_mean_delta(model, generic, targets)
    batches = {
        "teacher": teachers,
        "rank1": adversaries,
        "other_teacher": others,
        "base": LoRAWeights.zeros(teachers.spec, teachers.n, device),
    }
    read = {name: (seen.read(w), unseen.read(w)) for name, w in batches.items()}
    with torch.no_grad():
        means = {name: mean.behaviour(w) for name, w in batches.items()}
    verdicts: list[Verdicts] = [{} for _ in range(teachers.n)]
    for name in RIVALS:
        cosine = delta_cosine(means[name], targets)
        (near, far), (near_teacher, far_teacher) = read[name], read["teacher"]
        last = [r.deltas[:, :, -1:] for r in (far, far_teacher)]
        scores = [
            _score(reader, found, wanted, base)
            for reader, found, wanted, base in (
                (seen, near, near_teacher, read["base"][0]),
                (unseen, far, far_teacher, read["base"][1]),
            )
        ]
        columns = (
            cosine,
            _cosine(near.deltas, near_teacher.deltas),
            _cosine(*last),
            _cosine(far.deltas, far_teacher.deltas),
            _kl(unseen, far_teacher, far),
            *scores,
        )
        for place, row in enumerate(torch.stack([c.cpu() for c in columns], dim=1).tolist()):
            verdicts[place][name] = Measured(*row)
    return verdicts


def averaged(verdicts: list[Verdicts]) -> Verdicts:
    """Mean of every measurement over the teachers."""
    return {
        name: Measured(
            **{
                key: sum(asdict(v[name])[key] for v in verdicts) / len(verdicts)
                for key in Measured.__dataclass_fields__
            }
        )
        for name in RIVALS
    }


def identifiability_table(found: Verdicts) -> str:
    """Measurements by rival as plain text."""
    words = {
        "mean_cosine": "delta cosine, mean of 5 probes, last layer",
        "layers_cosine": "delta cosine, each probe, several layers",
        "held_out_cosine": "delta cosine, held-out probes, last layer",
        "held_out_layers_cosine": "delta cosine, held-out probes, several layers",
        "kl": "KL from the teacher, held-out probes (nats)",
        "score": "error each probe, several layers + KL / base's",
        "held_out_score": "the same on held-out probes",
    }
    width = max(map(len, words.values()))
    lines = [f"{'':<{width}}  " + "  ".join(f"{name:>13}" for name in RIVALS)]
    for key, text in words.items():
        numbers = "  ".join(f"{asdict(found[name])[key]:>13.4f}" for name in RIVALS)
        lines.append(f"{text:<{width}}  {numbers}")
    return "\n".join(lines)


def _cosine(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over probes and layers of the cosine of deltas [n, p, l, hidden], [n]."""
    return F.cosine_similarity(found, wanted, dim=-1).mean((1, 2))


def _kl(reader: ProbeReader, teachers: Readings, found: Readings) -> Tensor:
    """KL of each adapter to its own teacher, [n]."""
    pairs = zip(teachers.hidden, found.hidden, strict=True)
    return torch.stack([reader.kl(t[None], f[None])[0, 0] for t, f in pairs])


def _score(reader: ProbeReader, found: Readings, wanted: Readings, base: Readings) -> Tensor:
    """Relative squared error of deltas, every layer alike, plus KL over the base's; [n]."""
    # Layers grow in norm: each is divided by its own target, as a loss would do.
    errors = (found.deltas - wanted.deltas).square().sum((1, 3))
    squares = wanted.deltas.square().sum((1, 3)).clamp_min(1e-12)
    kl = _kl(reader, wanted, found) / _kl(reader, wanted, base).clamp_min(1e-12)
    return (errors / squares).mean(1) + kl
