"""Another base model for a VAE: its latents stay, a new decoder writes for the new base.

A task's latent, read off its adapter for one base, says what to do; how another base does it has to
be learnt from teachers of that base. Both runs hold teachers of the same ids, which name the task
and the shard of examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.generator import LoRAGeneratorVAE

# What stays as the other base's VAE has it: everything that a latent is made by.
ADOPTED = ("condition_network", "encoder", "bottleneck", "prior")


@dataclass(frozen=True)
class Transfer:
    """A VAE of another base, and the run whose adapters it reads.

    Attributes:
        vae: trained there.
        run: with teachers of the same ids.
    """

    vae: LoRAGeneratorVAE
    run: RunFolder

    @classmethod
    def of(cls, folder: Path, run: Path) -> Transfer:
        """Load the VAE.

        Raises:
            RunError: no VAE there, or one of another base than the run's.
        """
        vae, other = load_vae(folder), RunFolder(run)
        known = vae.metadata
        expected = known.get("source_fingerprint", known.get("base_fingerprint"))
        got = Manifest.read(other.manifest).base_fingerprint
        if expected != got:
            raise RunError(
                mismatch(other.manifest, "base model", f"the one of {folder}", got)
                + ": give the run that it was trained on, or one of the same base"
            )
        return cls(vae, other)

    def sources(self, entries: Sequence[TeacherEntry]) -> LoRAWeights:
        """Load the other base's teachers of the same ids, in their order.

        Raises:
            RunError: one is missing there, or they are of another rank or of other modules than
                the VAE reads.
        """
        manifest = Manifest.read(self.run.manifest)
        known = {entry.id: entry for entry in manifest.adapters}
        missing = [entry.id for entry in entries if entry.id not in known]
        if missing:
            raise RunError(
                f"{self.run.manifest}: expected teachers of the same ids as in the run that is "
                f"trained on, got none for {missing}"
            )
        found = manifest.load(self.run.checkpoints, [known[entry.id] for entry in entries])
        if found.spec != self.vae.source:
            raise RunError(f"{self.run.manifest}: expected adapters that the VAE reads, got others")
        return found

    def with_sources(self, inputs: TrainingInputs) -> TrainingInputs:
        """Return inputs whose latents are read off the other base's teachers."""
        return replace(inputs, sources=self.sources(inputs.entries))

    def hand_over(self, vae: LoRAGeneratorVAE) -> None:
        """Give a new VAE, whose encoder is built for the other base, what makes latents; frozen."""
        for name in ADOPTED:
            part = getattr(vae, name)
            part.load_state_dict(getattr(self.vae, name).state_dict())
            part.requires_grad_(False)
        self.freeze(vae)

    @staticmethod
    def freeze(vae: LoRAGeneratorVAE) -> None:
        """Keep what moves without gradients, as codebooks do in training, where it is."""
        for name in ADOPTED:
            getattr(vae, name).eval()

    @property
    def metadata(self) -> dict[str, str]:
        """What tells the base whose adapters are read."""
        known = self.vae.metadata
        return {
            "source_model": known.get("source_model", known["base_model"]),
            "source_fingerprint": known.get("source_fingerprint", known["base_fingerprint"]),
        }
