"""LoRASpec: which linears of a model an adapter changes, at what rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from llgbm.deltas.errors import ModelError, SettingError

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class ModuleShape:
    """One adapted linear: its path in the base model and its sizes."""

    path: str
    in_features: int
    out_features: int

    @property
    def name(self) -> str:
        """Last component of the path, the `target_modules` name (e.g. `q_proj`)."""
        return self.path.rsplit(".", 1)[-1]

    @property
    def layer(self) -> int:
        """Index of the decoder layer: the first whole number in the path, or -1 outside layers."""
        return next((int(part) for part in self.path.split(".") if part.isdigit()), -1)


@dataclass(frozen=True)
class LoRASpec:
    """Ordered modules of an adapter with rank `r` and `lora_alpha`.

    Args:
        modules: the adapted linears, in the order in which the base model lists them.
        r: rank, at least 1.
        lora_alpha: numerator of the scaling lora_alpha / r, above 0 and finite.

    Raises:
        ValueError: no modules, a module twice, a rank below 1 or such a lora_alpha.
    """

    modules: tuple[ModuleShape, ...]
    r: int
    lora_alpha: float

    def __post_init__(self) -> None:
        if not self.modules:
            raise ValueError("LoRASpec: modules: expected at least one, got none")
        if self.r < 1:
            raise SettingError(f"LoRASpec: r: expected at least 1, got {self.r}")
        if not 0 < self.lora_alpha < math.inf:
            raise SettingError(
                f"LoRASpec: lora_alpha: expected a finite number above 0, got {self.lora_alpha}"
            )
        paths = self.paths
        if len(set(paths)) != len(paths):
            twice = sorted({path for path in paths if paths.count(path) > 1})
            raise ValueError(f"LoRASpec: modules: expected each once, got {twice} more than once")

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        r: int = 8,
        lora_alpha: float = 16.0,
        target_modules: Iterable[str] = ALL_LINEAR,
        layers: Sequence[int] | None = None,
    ) -> LoRASpec:
        """Collect the linears of `model` whose last path component is in `target_modules`.

        Args:
            model: a causal language model, not wrapped by PEFT.
            r: rank.
            lora_alpha: LoRA alpha; the scaling is lora_alpha / r.
            target_modules: names such as `q_proj`.
            layers: only these decoder layers; all of them where None.

        Raises:
            ModelError: no names, or one that matches no linear of the model.
        """
        wanted = tuple(dict.fromkeys(target_modules))
        found: list[ModuleShape] = []
        for path, module in model.named_modules():
            if isinstance(module, nn.Linear) and path.rsplit(".", 1)[-1] in wanted:
                shape = ModuleShape(path, module.in_features, module.out_features)
                if layers is None or shape.layer in layers:
                    found.append(shape)
        missing = [name for name in wanted if all(shape.name != name for shape in found)]
        if missing or not wanted:
            known = sorted(
                {p.rsplit(".", 1)[-1] for p, m in model.named_modules() if isinstance(m, nn.Linear)}
            )
            raise ModelError(f"target_modules: expected names among {known}, got {missing}")
        return cls(tuple(found), r, lora_alpha)

    @property
    def scaling(self) -> float:
        """lora_alpha / r."""
        return self.lora_alpha / self.r

    @property
    def paths(self) -> tuple[str, ...]:
        """Module paths, in order."""
        return tuple(module.path for module in self.modules)

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Distinct last path components, in order of first appearance."""
        return tuple(dict.fromkeys(module.name for module in self.modules))

    @property
    def parameters_per_adapter(self) -> int:
        """Number of scalars in one adapter, A and B together."""
        return sum(self.r * (m.in_features + m.out_features) for m in self.modules)

    def check_model(self, model: nn.Module, where: object = "adapter") -> None:
        """Raise ModelError unless `model` has every module of this spec with the same sizes.

        Args:
            model: base.
            where: whose spec this is, for the error.
        """
        modules = dict(model.named_modules())
        for shape in self.modules:
            linear = modules.get(shape.path)
            if not isinstance(linear, nn.Linear):
                kind = "nothing" if linear is None else type(linear).__name__
                raise ModelError(
                    f"{where}: {shape.path}: expected a Linear in the base model, got {kind}"
                )
            expected = (shape.in_features, shape.out_features)
            got = (linear.in_features, linear.out_features)
            if expected != got:
                raise ModelError(
                    f"{where}: {shape.path}: (in, out): expected {expected} as in the adapter, "
                    f"got {got} in the base model"
                )


def linear_modules(model: nn.Module, spec: LoRASpec) -> dict[str, nn.Linear]:
    """Return the linears of `spec` by path, after checking that the model has them."""
    spec.check_model(model)
    modules = dict(model.named_modules())
    return {path: modules[path] for path in spec.paths}


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter."""
    return next(model.parameters()).device
