"""What a VAE experiment is asked for, and the trainings that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from llgbm.deltas.errors import SettingError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.recommended import recommended_deltas
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.experiments.presets import ExperimentPreset, PresetName
from llgbm.generators.teachers.shards import ShardData
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.experiments.other_base import taught_as
from llgbm.generators.vae.experiments.presets import HELD_OUT_TEACHERS, vae_preset
from llgbm.generators.vae.experiments.variants import VAE_EXPERIMENTS, VAEExperiment
from llgbm.generators.vae.train_config import VAETrainConfig


@dataclass(frozen=True)
class VAEExperimentConfig:
    """Answer one question about latents of adapters.

    Args:
        name: of the experiment, of VAE_EXPERIMENTS.
        run: run folder.
        preset: sizes.
        out: file that the results are copied to.
        variants: names of those to run beside the first; all where not given.
        teachers: `shared`: teachers of a task see the same examples in other orders; `disjoint`:
            those of the main job.
        transfer_from: of `vae-transfer`: folder of the VAE that is moved to `base_model`.
        sources: of `vae-transfer`: run folder with the teachers that it was trained on. The same
            are taught here: `teachers` and what a preset says of them do not count.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of everything.
        sizes: of your own, in place of the preset's.
    """

    name: str
    run: Path
    preset: PresetName = "demo"
    out: Path | None = None
    variants: tuple[str, ...] = ()
    teachers: ShardData = "shared"
    transfer_from: Path | None = None
    sources: Path | None = None
    base_model: str = "smollm2-135m"
    seed: int = 0
    sizes: ExperimentPreset | None = None

    def __post_init__(self) -> None:
        if self.name not in VAE_EXPERIMENTS:
            raise SettingError(
                f"experiment: expected one of {sorted(VAE_EXPERIMENTS)}, got {self.name!r}"
            )
        expected = list(VAE_EXPERIMENTS[self.name].variants)
        unknown = [name for name in self.variants if name not in expected]
        if unknown:
            raise SettingError(f"variants: expected among {expected}, got {unknown}")
        given = (self.transfer_from is not None, self.sources is not None)
        wanted = VAE_EXPERIMENTS[self.name].transfers
        if given != (wanted, wanted):
            raise SettingError(
                f"transfer_from and sources: expected {'both' if wanted else 'neither'} for "
                f"{self.name}, got {self.transfer_from} and {self.sources}"
            )
        count = self.chosen_sizes.teachers_per_task
        if count <= HELD_OUT_TEACHERS:
            where = self.sources or f"preset {self.preset}"
            raise SettingError(
                f"teachers: expected more than {HELD_OUT_TEACHERS} of each task, which are held "
                f"out, got {count} {self.chosen_sizes.data} ones in {where}"
            )

    @property
    def chosen_sizes(self) -> ExperimentPreset:
        """Those given, or the preset's, with the teachers of `sources` where there are some."""
        sizes = self.sizes or vae_preset(self.preset, self.teachers)
        return sizes if self.sources is None else taught_as(self.sources, sizes, self.seed)

    @property
    def experiment(self) -> VAEExperiment:
        """The experiment, with the chosen variants."""
        whole = VAE_EXPERIMENTS[self.name]
        first = next(iter(whole.variants))
        lacking = () if self.chosen_sizes.keep_every else whole.on_trajectories
        chosen = {
            name: change
            for name, change in whole.variants.items()
            if (name in (first, *self.variants)) or (not self.variants and name not in lacking)
        }
        return replace(whole, variants=chosen)


def named_by_settings(training: VAETrainConfig) -> VAETrainConfig:
    """Name a training by what decides it: experiments share those that are alike."""
    settings = {key: value for key, value in training.settings().items() if key != "name"}
    return replace(training, name=f"vae-{text_fingerprint(settings)[:10]}")


def vae_training(config: VAEExperimentConfig, model: nn.Module) -> VAETrainConfig:
    """Settings of an experiment's VAE; variants change and name them."""
    preset = config.chosen_sizes
    every = max(1, preset.steps // 5)
    return VAETrainConfig(
        config.run,
        steps=preset.steps,
        batch_size=2 * preset.batch_size,
        deltas=recommended_deltas(model),
        validate_every=every,
        save_every=max(1, -(-preset.steps // 2)),
        vae=VAEConfig(decoder=FullWidthConfig(codes=4 * preset.codes)),
        transfer_from=config.transfer_from,
        sources=config.sources,
        seed=config.seed,
    )
