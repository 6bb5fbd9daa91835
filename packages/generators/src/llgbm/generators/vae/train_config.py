"""VAETrainConfig: what `llgbm train-vae` reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llgbm.deltas.errors import SettingError, require_at_least
from llgbm.generators.training.settings import TrainingSettings
from llgbm.generators.vae.augment import AugmentConfig
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.loss import VAELoRALoss, recommended_vae_loss


@dataclass(frozen=True)
class VAETrainConfig(TrainingSettings):
    """Train a VAE on the teachers of a run.

    Args:
        vae: parts and sizes.
        loss: reconstruction, rate, behaviour; `recommended_vae_loss` where none is given.
        augment: synthetic adapters beside the teachers.
        hold_out: teachers of each task that it does not see, to be rebuilt in validation.
        transfer_from: folder of a VAE of another base, whose latents stay as they are; only the
            decoders are trained. `vae` is then as it is there.
        sources: run folder with that base's teachers of the same ids.
    """

    name: str = "vae"
    batch_size: int = 12
    vae: VAEConfig = field(default_factory=VAEConfig)
    loss: VAELoRALoss | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    hold_out: int = 1
    transfer_from: Path | None = None
    sources: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, hold_out=self.hold_out)
        if self.batch_size < 2 and self.chosen_objective.lambda_halfway > 0:
            raise SettingError(
                "lambda_halfway: expected a batch_size of at least 2, for there to be anything "
                f"between two latents, got {self.batch_size}"
            )
        if (self.transfer_from is None) != (self.sources is None):
            raise SettingError(
                "transfer_from and sources: expected both or neither, got "
                f"{self.transfer_from} and {self.sources}"
            )
        if self.transfer_from is not None and self.augment != AugmentConfig():
            raise SettingError(
                "augment: expected none with transfer_from, since made adapters have no "
                "counterpart of the other base"
            )

    @property
    def chosen_objective(self) -> VAELoRALoss:
        """The loss given, or the recommended one."""
        return self.loss or recommended_vae_loss(self.steps)

    @property
    def chosen_vae(self) -> VAEConfig:
        """Parts and sizes of a VAE that reads the embeddings of the training's encoder."""
        return replace(self.vae, text_encoder=self.encoder)

    def parts(self) -> dict[str, Any]:
        """See TrainingSettings."""
        return {"vae": self.chosen_vae, "loss": self.chosen_objective, "augment": self.augment}

    def settings(self) -> dict[str, Any]:
        """See TrainingSettings."""
        found = {**super().settings(), "hold_out": self.hold_out}
        if self.transfer_from is not None:
            found |= {"transfer_from": str(self.transfer_from), "sources": str(self.sources)}
        return found
