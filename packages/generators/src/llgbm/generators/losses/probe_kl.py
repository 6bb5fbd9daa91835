"""A tether on what the model says next at the end of each probe."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs


@dataclass(frozen=True)
class ProbeKL:
    """KL(teacher || generated) of next-token distributions, mean over probes, in nats.

    Hidden states may agree in cosine while the logits do not; this term sees the logits (seed
    001, phase 5: KL tether on probe logits). No forward is added: states after the final norm
    are the base's plus the delta, and the head is run on those.
    """

    name: str = field(default="kl", init=False)
    runs: Runs = field(default="gradient", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the mean over items and probes.

        Raises:
            SettingError: deltas that do not hold the last layer's last token of each probe.
        """
        behaviour = step.needed_behaviour
        teacher = behaviour.log_probabilities(step.teacher_delta).detach()
        generated = behaviour.log_probabilities(step.computed_delta)
        divergence = F.kl_div(generated, teacher, log_target=True, reduction="none")
        return divergence.sum(-1).mean()
