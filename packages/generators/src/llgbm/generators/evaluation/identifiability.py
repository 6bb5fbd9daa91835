"""Identifiability: which measurements tell a teacher from the rank-1 adversary.

The adversary has the teacher's mean delta over the five generic probes. A second one goes on from
there and is fitted to the recommended objective's own terms on these probes. Each measurement is
taken of both, of another task's teacher and of the base, so that a number stands beside what it
means.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.probes import ProbeSet, create_generic_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.fitted_adversary import fit_adapters
from llgbm.generators.evaluation.probe_readings import ProbeReader, Readings
from llgbm.generators.evaluation.rank_one import match_mean_delta
from llgbm.generators.generator import GeneratorOutput
from llgbm.generators.losses.computed import ComputedDelta
from llgbm.generators.losses.probe_kl import ProbeKL
from llgbm.generators.losses.recommended import recommended_objective
from llgbm.generators.losses.step import Step
from llgbm.generators.training.behaviour import Behaviour


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
        loss: the recommended objective's terms on computed deltas and KL on the generic probes,
            for a batch of this teacher alone, over the base's: 0 for the teacher, 1 for the base.
        held_out_loss: the same on held-out probes.
    """

    mean_cosine: float
    layers_cosine: float
    held_out_cosine: float
    held_out_layers_cosine: float
    kl: float
    loss: float
    held_out_loss: float


# Who is measured: the teacher itself, its adversaries, another task's teacher, the base.
RIVALS = ("teacher", "rank1", "rank1_fitted", "other_teacher", "base")
WORDS = {
    "mean_cosine": "delta cosine, mean of the five generic probes, last layer",
    "layers_cosine": "delta cosine, each generic probe, several layers",
    "held_out_cosine": "delta cosine, each held-out probe, last layer",
    "held_out_layers_cosine": "delta cosine, each held-out probe, several layers",
    "kl": "KL from the teacher, held-out probes, nats",
    "loss": "the recommended objective's behavioural terms, over the base's",
    "held_out_loss": "the same on held-out probes",
}
Verdicts = dict[str, Measured]


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
    spec = recommended_deltas(model)
    seen, unseen = (ProbeReader(model, probes, spec) for probes in (generic, held_out))
    mean = ProbeReader(model, generic, DeltaSpec())
    with torch.no_grad():
        targets = mean.behaviour(teachers)
        wanted = seen.behaviour(teachers)
    adversaries = match_mean_delta(model, generic, targets)
    fitted = fit_adapters(adversaries, lambda w: _default_losses(seen.behaviour, w, wanted))
    batches = {
        "teacher": teachers,
        "rank1": adversaries,
        "rank1_fitted": fitted,
        "other_teacher": others,
        "base": LoRAWeights.zeros(teachers.spec, teachers.n, device),
    }
    read = {name: (seen.read(w), unseen.read(w)) for name, w in batches.items()}
    with torch.no_grad():
        means = {name: mean.behaviour(w) for name, w in batches.items()}
        losses = {
            name: [
                _default_losses(reader.behaviour, w, read["teacher"][place].deltas)
                for place, reader in enumerate((seen, unseen))
            ]
            for name, w in batches.items()
        }
    verdicts: list[Verdicts] = [{} for _ in range(teachers.n)]
    for name in RIVALS:
        cosine = delta_cosine(means[name], targets)
        (near, far), (near_teacher, far_teacher) = read[name], read["teacher"]
        last = [r.deltas[:, :, -1:] for r in (far, far_teacher)]
        shares = [
            loss / base.clamp_min(1e-12)
            for loss, base in zip(losses[name], losses["base"], strict=True)
        ]
        columns = (
            cosine,
            _cosine(near.deltas, near_teacher.deltas),
            _cosine(*last),
            _cosine(far.deltas, far_teacher.deltas),
            _kl(unseen, far_teacher, far),
            *shares,
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
    width = max(map(len, WORDS.values()))
    lines = [f"{'':<{width}}  " + "  ".join(f"{name:>13}" for name in RIVALS)]
    for key, text in WORDS.items():
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


def _default_losses(behaviour: Behaviour, weights: LoRAWeights, targets: Tensor) -> Tensor:
    """What the recommended objective says of the behaviour of n adapters, [n]."""
    objective = recommended_objective(1)
    terms = [item for item in objective.terms() if isinstance(item.term, ComputedDelta | ProbeKL)]
    losses = []
    for place in range(weights.n):
        one, target = weights.select([place]), targets[place : place + 1]
        output = GeneratorOutput(one, target, target.flatten(1))
        step = Step(0, output, one, target, behaviour)
        losses.append(torch.stack([item.weight * item.term(step) for item in terms]).sum())
    return torch.stack(losses)
