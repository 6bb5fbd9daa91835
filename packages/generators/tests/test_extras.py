"""A package that is not installed is told before hours of work, with the line that installs it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llgbm.deltas.errors import SettingError
from llgbm.generators import extras
from llgbm.generators.sideways.experiment.run import (
    SidewaysExperimentConfig,
    run_sideways_experiment,
)
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.experiments.config import VAEExperimentConfig
from llgbm.generators.vae.experiments.run import run_vae_experiment
from llgbm.generators.vae.experiments.variants import VAE_EXPERIMENTS
from llgbm.generators.vae.priors.flow import FlowPriorConfig


@pytest.fixture
def without(monkeypatch):
    """A function that makes modules impossible to import."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.mark.parametrize(
    ("module", "ask", "extra"),
    [
        ("vector_quantize_pytorch", extras.quantizers, "vae"),
        ("zuko", extras.flows, "vae"),
        ("moocore", extras.fronts, "sideways"),
        ("cmaes", lambda: extras.cma_es("vae"), "vae"),
        ("cmaes", lambda: extras.cma_es("sideways"), "sideways"),
    ],
)
def test_what_is_missing_is_told_with_its_extra(module, ask, extra, without) -> None:
    assert ask() is not None
    without(module)
    with pytest.raises(SettingError, match=rf"pip install 'llgbm-generators\[{extra}\]'"):
        ask()


@pytest.mark.parametrize("module", ["moocore", "cmaes"])
def test_the_sideways_experiment_collects_nothing_without_its_packages(
    module, without, tmp_path
) -> None:
    without(module)
    with pytest.raises(SettingError, match=rf"{module}: pip install"):
        run_sideways_experiment(SidewaysExperimentConfig(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "module"), [("vae-discrete", "vector_quantize_pytorch"), ("vae-prior", "zuko")]
)
def test_a_vae_experiment_teaches_nothing_without_its_packages(
    name, module, without, tmp_path, make_tiny_model, tokenizer
) -> None:
    without(module)
    config = VAEExperimentConfig(name, tmp_path / "run")
    with pytest.raises(SettingError, match="pip install 'llgbm-generators"):
        run_vae_experiment(config, make_tiny_model(), tokenizer)
    assert not (tmp_path / "run").exists()


def test_variants_that_are_left_out_ask_for_nothing(without) -> None:
    without("vector_quantize_pytorch", "zuko")
    VAEConfig().require_packages()
    with pytest.raises(SettingError, match="zuko"):
        replace(VAEConfig(), prior=FlowPriorConfig()).require_packages()
    chosen = VAEExperimentConfig("vae-discrete", Path("x"), variants=("gaussian",)).experiment
    assert list(chosen.variants) == ["gaussian"]
    assert len(VAE_EXPERIMENTS["vae-discrete"].variants) == 3
