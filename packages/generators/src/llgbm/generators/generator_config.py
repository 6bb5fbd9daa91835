"""GeneratorConfig: what a generator is made of, and its description in config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.generators.condition_network import ConditionNetworkConfig
from llgbm.generators.decoders.full_width import FullWidthConfig
from llgbm.generators.decoders.hyper_conv import HyperConvConfig
from llgbm.generators.decoders.periodic import PeriodicConfig
from llgbm.generators.decoders.registry import DECODERS, DecoderConfig, decoder_name
from llgbm.generators.delta_head import DeltaHeadConfig
from llgbm.generators.text_encoder import PACKAGED_ENCODER

FORMAT = 2

Config = TypeVar(
    "Config",
    bound=FullWidthConfig
    | PeriodicConfig
    | HyperConvConfig
    | ConditionNetworkConfig
    | DeltaHeadConfig,
)


@dataclass(frozen=True)
class GeneratorConfig:
    """What a generator is made of, apart from the base model it writes for.

    Args:
        decoder: config of a registered decoder; its type says which.
        condition: sizes of the set encoder.
        delta_head: sizes of the delta head.
        text_encoder: name of the encoder whose embeddings it reads.
    """

    decoder: DecoderConfig = field(default_factory=FullWidthConfig)
    condition: ConditionNetworkConfig = field(default_factory=ConditionNetworkConfig)
    delta_head: DeltaHeadConfig = field(default_factory=DeltaHeadConfig)
    text_encoder: str = PACKAGED_ENCODER


def describe_generator(
    config: GeneratorConfig, spec: LoRASpec, delta_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Everything needed to build a generator again, as JSON values; see read_description."""
    return {
        "format": FORMAT,
        "text_encoder": config.text_encoder,
        "decoder": {"name": decoder_name(config.decoder), **asdict(config.decoder)},
        "condition": asdict(config.condition),
        "delta_head": asdict(config.delta_head),
        "delta_shape": list(delta_shape),
        "spec": describe_spec(spec),
    }


def describe_spec(spec: LoRASpec) -> dict[str, Any]:
    """A spec as JSON values; see read_spec."""
    return {
        "r": spec.r,
        "lora_alpha": spec.lora_alpha,
        "modules": [[m.path, m.in_features, m.out_features] for m in spec.modules],
    }


def read_description(
    content: Mapping[str, Any], file: Path
) -> tuple[GeneratorConfig, LoRASpec, tuple[int, ...]]:
    """Return config, spec and delta_shape of what `describe_generator` gave.

    Args:
        content: of config.json.
        file: named in errors.

    Raises:
        RunError: another format, or a key that is missing, unknown or of the wrong type.
    """
    if "kind" in content:
        expected = "a generator of `llgbm train`"
        raise RunError(mismatch(file, "kind", expected, repr(content["kind"])))
    if content.get("format") != FORMAT:
        raise RunError(mismatch(file, "format", FORMAT, content.get("format")))
    decoder = dict(_object(content, "decoder", file))
    name = decoder.pop("name", None)
    if name not in DECODERS:
        raise RunError(mismatch(file, "decoder: name", f"one of {sorted(DECODERS)}", name))
    config = GeneratorConfig(
        _read_config(DECODERS[name].config, decoder, "decoder", file),
        _read_config(
            ConditionNetworkConfig, _object(content, "condition", file), "condition", file
        ),
        _read_config(DeltaHeadConfig, _object(content, "delta_head", file), "delta_head", file),
        _string(content, "text_encoder", file),
    )
    shape = content.get("delta_shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise RunError(mismatch(file, "delta_shape", "a list of sizes", shape))
    return config, read_spec(content, file), tuple(shape)


def read_spec(content: Mapping[str, Any], file: Path) -> LoRASpec:
    """Return the spec that `describe_spec` described under `spec`.

    Raises:
        RunError: missing or malformed.
    """
    described = _object(content, "spec", file)
    try:
        modules = tuple(
            ModuleShape(str(path), int(in_features), int(out_features))
            for path, in_features, out_features in described["modules"]
        )
        return LoRASpec(modules, int(described["r"]), described["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file}: spec: expected r, lora_alpha and modules, got {error}") from error


def _object(content: Mapping[str, Any], key: str, file: Path) -> Mapping[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise RunError(mismatch(file, key, "an object", type(value).__name__))
    return value


def _string(content: Mapping[str, Any], key: str, file: Path) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise RunError(mismatch(file, key, "a string", type(value).__name__))
    return value


def _read_config(kind: type[Config], values: Mapping[str, Any], where: str, file: Path) -> Config:
    """Build a config whose fields are all numbers with defaults of the right type."""
    expected = {f.name: f for f in fields(kind)}
    if set(values) != set(expected):
        raise RunError(mismatch(file, where, sorted(expected), sorted(values)))
    for name, value in values.items():
        default = expected[name].default
        assert default is not MISSING
        wanted = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise RunError(mismatch(file, f"{where}: {name}", type(default).__name__, repr(value)))
    try:
        return kind(**values)
    except ValueError as error:
        raise RunError(f"{file}: {where}: {error}") from error
