"""LoRAWeights: a batch of n adapters, the type that every part of the project exchanges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.errors import AdapterError
from llgbm.deltas.spec import LoRASpec


@dataclass(frozen=True)
class LoRAWeights:
    """Factors of n adapters that share one spec.

    Args:
        spec: modules, rank and alpha.
        lora_A: by module path, [n, r, in], floating point.
        lora_B: by module path, [n, out, r], same dtype and device.

    Raises:
        AdapterError: no adapters, or modules or shapes that differ from the spec's.
    """

    spec: LoRASpec
    lora_A: Mapping[str, Tensor]
    lora_B: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        paths = set(self.spec.paths)
        for name, factors in (("lora_A", self.lora_A), ("lora_B", self.lora_B)):
            if set(factors) != paths:
                missing, extra = sorted(paths - set(factors)), sorted(set(factors) - paths)
                raise AdapterError(f"{name}: missing modules {missing[:3]}, extra {extra[:3]}")
        n = self.n
        if n < 1:
            raise AdapterError(f"weights: n: expected at least one adapter, got {n}")
        for module in self.spec.modules:
            for name, factor, expected in (
                ("lora_A", self.lora_A[module.path], (n, self.spec.r, module.in_features)),
                ("lora_B", self.lora_B[module.path], (n, module.out_features, self.spec.r)),
            ):
                if tuple(factor.shape) != expected:
                    raise AdapterError(
                        f"{module.path}.{name}: expected shape {expected}, "
                        f"got {tuple(factor.shape)}"
                    )

    @property
    def n(self) -> int:
        """Number of adapters in the batch."""
        return self.lora_A[self.spec.paths[0]].shape[0]

    @property
    def device(self) -> torch.device:
        """Device of the factors."""
        return self.lora_A[self.spec.paths[0]].device

    @classmethod
    def zeros(cls, spec: LoRASpec, n: int = 1, device: torch.device | str = "cpu") -> LoRAWeights:
        """Return n adapters that change nothing: A and B zero, float32."""
        return cls(
            spec,
            {m.path: torch.zeros(n, spec.r, m.in_features, device=device) for m in spec.modules},
            {m.path: torch.zeros(n, m.out_features, spec.r, device=device) for m in spec.modules},
        )

    @classmethod
    def initial(
        cls, spec: LoRASpec, n: int, generator: torch.Generator, shared_A: bool = True
    ) -> LoRAWeights:
        """Return n adapters as PEFT initialises them: A uniform (Kaiming, a = sqrt 5), B zero.

        Args:
            spec: modules and rank.
            n: number of adapters.
            generator: source of randomness, on the CPU.
            shared_A: the same A for all n, which removes most of the gauge freedom
                between adapters trained apart; else each its own.
        """
        lora_A: dict[str, Tensor] = {}
        for module in spec.modules:
            bound = 1.0 / math.sqrt(module.in_features)
            count = 1 if shared_A else n
            drawn = torch.rand(count, spec.r, module.in_features, generator=generator)
            lora_A[module.path] = ((2 * drawn - 1) * bound).expand(n, -1, -1).contiguous()
        zeros = cls.zeros(spec, n)
        return cls(spec, lora_A, zeros.lora_B)

    @classmethod
    def concatenate(cls, batches: Sequence[LoRAWeights]) -> LoRAWeights:
        """Join batches of one spec along n.

        Raises:
            AdapterError: no batches, or specs that differ.
        """
        if not batches:
            raise AdapterError("concatenate: expected at least one batch of adapters, got none")
        spec = batches[0].spec
        for batch in batches[1:]:
            if batch.spec != spec:
                raise AdapterError(
                    f"concatenate: expected r={spec.r}, lora_alpha={spec.lora_alpha} and the same "
                    f"{len(spec.modules)} modules in all adapters, got r={batch.spec.r}, "
                    f"lora_alpha={batch.spec.lora_alpha}, {len(batch.spec.modules)} modules"
                )
        return cls(
            spec,
            {path: torch.cat([b.lora_A[path] for b in batches]) for path in spec.paths},
            {path: torch.cat([b.lora_B[path] for b in batches]) for path in spec.paths},
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> LoRAWeights:
        """Apply `function` to every factor."""
        return LoRAWeights(
            self.spec,
            {path: function(factor) for path, factor in self.lora_A.items()},
            {path: function(factor) for path, factor in self.lora_B.items()},
        )

    def select(self, indices: Sequence[int] | slice) -> LoRAWeights:
        """Return the adapters at `indices`, in that order."""
        rows = indices if isinstance(indices, slice) else list(indices)
        return self.map(lambda factor: factor[rows])

    def detach(self) -> LoRAWeights:
        """Return the same values without gradient."""
        return self.map(Tensor.detach)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> LoRAWeights:
        """Move and cast every factor."""
        return self.map(lambda factor: factor.to(device=device, dtype=dtype))

    def check_finite(self, where: object = "adapter") -> None:
        """Raise AdapterError naming the first factor that holds NaN or Inf."""
        for path in self.spec.paths:
            for name, factor in (("lora_A", self.lora_A[path]), ("lora_B", self.lora_B[path])):
                if not torch.isfinite(factor).all():
                    bad = int((~torch.isfinite(factor)).sum())
                    raise AdapterError(
                        f"{where}: {path}.{name}: expected finite values, got {bad} NaN or Inf"
                    )

    def delta_norms(self) -> Tensor:
        """Frobenius norm of scaling * B A per module without forming it.

        Returns:
            [n, modules], float32: sqrt(sum((BᵀB) * (A Aᵀ))) * scaling.
        """
        norms = []
        for path in self.spec.paths:
            lora_A, lora_B = self.lora_A[path].float(), self.lora_B[path].float()
            gram = (lora_B.mT @ lora_B) * (lora_A @ lora_A.mT)
            norms.append(gram.sum((-1, -2)).clamp_min(0).sqrt())
        return torch.stack(norms, dim=-1) * self.spec.scaling
