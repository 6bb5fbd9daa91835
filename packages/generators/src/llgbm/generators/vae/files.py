"""A VAE on disk: vae.safetensors and config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.module_files import (
    CONFIG,
    check_pair,
    fill_module,
    read_module_config,
    write_module,
)
from llgbm.deltas.spec import LoRASpec
from llgbm.generators.condition_network import ConditionNetworkConfig
from llgbm.generators.decoders.full_width import FullWidthConfig
from llgbm.generators.decoders.periodic import PeriodicConfig
from llgbm.generators.generator_config import describe_spec, read_spec
from llgbm.generators.training.settings import described
from llgbm.generators.vae.bottlenecks.deterministic import DeterministicConfig
from llgbm.generators.vae.bottlenecks.finite_scalar import FiniteScalarConfig
from llgbm.generators.vae.bottlenecks.gaussian import GaussianConfig
from llgbm.generators.vae.bottlenecks.vector_quantized import VectorQuantizedConfig
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.encoders import AdapterEncoderConfig, ConditionEncoderConfig
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.priors.flow import FlowPriorConfig
from llgbm.generators.vae.priors.mixture import MixturePriorConfig
from llgbm.generators.vae.priors.normal import NormalPriorConfig
from llgbm.generators.vae.priors.vamp import VampPriorConfig

FORMAT = 1
TENSORS = "vae.safetensors"
# Everything that a described config may be made of, by the name of its type.
_PARTS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        AdapterEncoderConfig,
        ConditionEncoderConfig,
        ConditionNetworkConfig,
        DeterministicConfig,
        FiniteScalarConfig,
        FlowPriorConfig,
        FullWidthConfig,
        GaussianConfig,
        MixturePriorConfig,
        NormalPriorConfig,
        PeriodicConfig,
        VAEConfig,
        VampPriorConfig,
        VectorQuantizedConfig,
    )
}


def save_vae(vae: LoRAGeneratorVAE, folder: Path) -> None:
    """Write both files atomically, the tensors first."""
    description = {
        "format": FORMAT,
        "kind": "vae",
        "vae": described(vae.config),
        "delta_shape": list(vae.delta_shape),
        "spec": describe_spec(vae.spec),
    }
    if vae.source != vae.spec:
        description["source"] = {"spec": describe_spec(vae.source)}
    write_module(vae, folder, TENSORS, description, vae.metadata)


def load_vae(folder: Path | str) -> LoRAGeneratorVAE:
    """Read a VAE that `save_vae` wrote, on the CPU, in evaluation mode.

    Raises:
        RunError: missing, damaged or half-written files, keys or shapes that do not fit, NaN or
            Inf.
    """
    folder = Path(folder)
    file = folder / CONFIG
    content, metadata = read_module_config(folder, "llgbm train-vae")
    if (content.get("format"), content.get("kind")) != (FORMAT, "vae"):
        found = (content.get("format"), content.get("kind"))
        raise RunError(mismatch(file, "format and kind", (FORMAT, "vae"), found))
    config = _part(content.get("vae"), "vae", file)
    if not isinstance(config, VAEConfig):
        raise RunError(mismatch(file, "vae", "VAEConfig", type(config).__name__))
    shape = content.get("delta_shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise RunError(mismatch(file, "delta_shape", "a list of sizes", shape))
    spec: LoRASpec = read_spec(content, file)
    other = content.get("source")
    source = None if other is None else read_spec(other if isinstance(other, dict) else {}, file)
    check_pair(folder / TENSORS, content)
    vae = LoRAGeneratorVAE(config, spec, tuple(shape), source=source)
    vae.metadata = metadata
    fill_module(vae, folder / TENSORS)
    return vae.eval()


def _part(value: Any, where: str, file: Path) -> Any:
    """Build a config of what `described` gave."""
    if not isinstance(value, Mapping) or value.get("kind") not in _PARTS:
        got = value.get("kind") if isinstance(value, Mapping) else type(value).__name__
        raise RunError(mismatch(file, where, f"one of {sorted(_PARTS)}", got))
    kind = _PARTS[value["kind"]]
    expected = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    given = {key: item for key, item in value.items() if key != "kind"}
    if set(given) != expected:
        raise RunError(mismatch(file, where, sorted(expected), sorted(given)))
    built = {
        key: _part(item, f"{where}: {key}", file)
        if isinstance(item, Mapping)
        else tuple(item)
        if isinstance(item, list)
        else item
        for key, item in given.items()
    }
    try:
        made = kind(**built)
    except (TypeError, ValueError) as error:
        raise RunError(f"{file}: {where}: {error}") from error
    assert is_dataclass(made)
    return made
