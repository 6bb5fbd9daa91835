"""Teachers of an experiment: those that VAEs see, and those that they are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llgbm.generators.runs import RunFolder
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.vae.held_out import HeldOutTeachers, keep_back
from llgbm.generators.vae.train import family_teachers
from llgbm.generators.vae.train_config import VAETrainConfig
from llgbm.generators.vae.transfer import Transfer


@dataclass(frozen=True)
class SplitTeachers:
    """Who is trained on and who is not.

    Attributes:
        inputs: of trainings, which hold out those that choose the best step themselves.
        kept: what trainings see of these.
        parts: split -> teachers that are measured; nothing has seen them.
    """

    inputs: TrainingInputs
    kept: TrainingInputs
    parts: Mapping[str, HeldOutTeachers]


def split_teachers(
    training: VAETrainConfig,
    everything: TrainingInputs,
    run: RunFolder,
    transfer: Transfer | None = None,
) -> SplitTeachers:
    """Hold out the last teacher of every task, and the validation families.

    Args:
        training: settings of every VAE.
        everything: of the run.
        run: its folder.
        transfer: the VAE and the teachers of another base, which latents are read off then.
    """
    if transfer is not None:
        everything = transfer.with_sources(everything)
    inputs, held_out = keep_back(everything, 1)
    kept, _ = keep_back(inputs, training.hold_out)
    parts = {"held_out": held_out}
    families = family_teachers(training, inputs, run, transfer)
    if families is not None:
        parts["validation_family"] = families
    return SplitTeachers(inputs, kept, parts)
