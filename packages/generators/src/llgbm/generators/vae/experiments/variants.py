"""What the experiments compare, and how each variant is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from llgbm.generators.losses.schedules import Cyclical
from llgbm.generators.losses.update_cosine import UpdateCosineLoss
from llgbm.generators.vae.bottlenecks.deterministic import DeterministicConfig
from llgbm.generators.vae.bottlenecks.finite_scalar import FiniteScalarConfig
from llgbm.generators.vae.bottlenecks.vector_quantized import VectorQuantizedConfig
from llgbm.generators.vae.encoders import ConditionEncoderConfig
from llgbm.generators.vae.priors.flow import FlowPriorConfig
from llgbm.generators.vae.priors.mixture import MixturePriorConfig
from llgbm.generators.vae.priors.normal import NormalPriorConfig
from llgbm.generators.vae.priors.vamp import VampPriorConfig
from llgbm.generators.vae.train_config import VAETrainConfig

# From the configuration of a preset to that of a variant.
Change = Callable[[VAETrainConfig], VAETrainConfig]
# Numbers of a layer's code (seed 000, layer_code_dim).
LAYER_CODE = 32


@dataclass(frozen=True)
class VAEExperiment:
    """One question.

    Attributes:
        question: in words.
        variants: name -> how it is trained; maps are of the first, and so are ways.
        rivals: whether generators without a VAE are trained on the same teachers.
        on_trajectories: variants that need checkpoints along the teachers' ways.
        all_ways: whether ways are measured of every variant.
        transfers: whether it is given a VAE of another base, whose latents variants take over.
    """

    question: str
    variants: Mapping[str, Change]
    rivals: bool = False
    on_trajectories: frozenset[str] = frozenset()
    all_ways: bool = False
    transfers: bool = False


def _same(config: VAETrainConfig) -> VAETrainConfig:
    return config


def _vae(**fields: object) -> Change:
    return lambda config: replace(config, vae=replace(config.vae, **fields))  # type: ignore[arg-type]


def _loss(**fields: object) -> Change:
    return lambda c: replace(c, loss=replace(c.chosen_objective, **fields))  # type: ignore[arg-type]


def _augmented(**fields: object) -> Change:
    return lambda c: replace(c, augment=replace(c.augment, **fields))  # type: ignore[arg-type]


def _own(config: VAETrainConfig) -> VAETrainConfig:
    """Learn latents on the base's own teachers."""
    return replace(config, transfer_from=None, sources=None)


_HIERARCHICAL = _vae(layer_code_dim=LAYER_CODE)
_SEEDS_ENCODER = _vae(encoder=ConditionEncoderConfig(), prior=NormalPriorConfig(conditional=False))
_VQ = _vae(layer_code_dim=LAYER_CODE, bottleneck=VectorQuantizedConfig())
_ALL = {
    "vae-comparison": VAEExperiment(
        "What does a latent cost and bring beside generators without one?",
        {"gaussian": _same, "vq": _VQ, "hierarchical": _HIERARCHICAL},
        rivals=True,
    ),
    "vae-gaussian": VAEExperiment(
        "Does a Gaussian latent hold adapters (4b.1)?",
        {
            "gaussian": _same,
            "autoencoder": _vae(bottleneck=DeterministicConfig()),
            "condition encoder": _SEEDS_ENCODER,
            "cosine": _loss(recon=UpdateCosineLoss()),
            "no delta": _loss(lambda_delta=0.0),
            "computed delta": _loss(lambda_computed=0.1),
            "cyclical beta": lambda c: _loss(beta=Cyclical(max(2, c.steps // 4)))(c),
        },
    ),
    "vae-discrete": VAEExperiment(
        "Do codes hold adapters (4b.2)?",
        {
            "gaussian": _HIERARCHICAL,
            "vq": _VQ,
            "fsq": _vae(layer_code_dim=LAYER_CODE, bottleneck=FiniteScalarConfig()),
        },
    ),
    "vae-hierarchical": VAEExperiment(
        "Do codes of layers beside a global one help (4b.3)?",
        {"flat": _same, "hierarchical": _HIERARCHICAL},
    ),
    "vae-prior": VAEExperiment(
        "Which prior?",
        {
            "normal": _same,
            "mixture": _vae(prior=MixturePriorConfig()),
            "vamp": _vae(prior=VampPriorConfig()),
            "flow": _vae(prior=FlowPriorConfig()),
            "split": _vae(prior=NormalPriorConfig(task_dim=32)),
        },
    ),
    "vae-interpolation": VAEExperiment(
        "Does a decoder that is straight between latents walk better from task to task?",
        {"straight": _loss(lambda_halfway=0.3), "plain": _same},
        all_ways=True,
    ),
    "vae-augmentation": VAEExperiment(
        "Do synthetic adapters help?",
        {
            "none": _HIERARCHICAL,
            "noise": lambda c: _augmented(noise=0.1)(_HIERARCHICAL(c)),
            "interpolated": lambda c: _augmented(interpolated=24)(_HIERARCHICAL(c)),
            "partial": lambda c: _augmented(partial=24)(_HIERARCHICAL(c)),
            "trajectories": lambda c: _augmented(trajectories=2)(_HIERARCHICAL(c)),
        },
        on_trajectories=frozenset({"trajectories"}),
    ),
    "vae-transfer": VAEExperiment(
        "Do latents of one base write adapters for another (4b.4)?",
        {"moved": _same, "own": _own},
        transfers=True,
    ),
}
VAE_EXPERIMENTS: Mapping[str, VAEExperiment] = MappingProxyType(_ALL)
