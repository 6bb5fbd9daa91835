"""Length penalty: slots that are not needed shrink beside those that are."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.linalg import vector_norm

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig

SMALLEST = 1e-12


@TERMS.register("length")
@dataclass(frozen=True)
class LengthTermConfig:
    """Share of a text's slots that are in use, by their norms.

    Args:
        weight: of the term.
        schedule: of the weight.
    """

    weight: float = 0.01
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def build(self, compressor: Compressor, reader: Reader) -> LengthTerm:
        """Build it."""
        return LengthTerm()


class LengthTerm(Term):
    """Mean over texts of (mean norm / root mean square norm) squared, from 1/m to 1.

    m slots of equal norm give 1, k of them beside m - k zeros give k / m: times m it is the
    number of slots in use. It is a ratio, so that shrinking all slots alike gains nothing.
    """

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        latents = step.whole_latents
        norms, counts = vector_norm(latents.values, dim=-1) * latents.mask, latents.counts
        share = norms.sum(1).square() / (counts * norms.square().sum(1)).clamp(min=SMALLEST)
        self.logged = {"slots": float((share.detach() * counts).mean())}
        return share.mean()
