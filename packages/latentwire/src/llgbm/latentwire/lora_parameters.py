"""One trainable LoRA on a frozen model's layers, applied only where it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.spec import ALL_LINEAR, LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.latentwire.reader import Reader


class LoRAParameters(nn.Module):
    """Factors of one adapter, as parameters; the model itself is never changed.

    Args:
        reader: frozen model to adapt.
        r: rank.
        lora_alpha: LoRA alpha.
        layers: decoder layers; all where None.
        target_modules: names of linears.

    Raises:
        ModelError: a target module that the reader lacks.
    """

    def __init__(
        self,
        reader: Reader,
        r: int,
        lora_alpha: float,
        layers: Sequence[int] | None = None,
        target_modules: Iterable[str] = ALL_LINEAR,
    ) -> None:
        super().__init__()
        self.spec = LoRASpec.from_model(reader.model, r, lora_alpha, target_modules, layers)
        self._functional = FunctionalLoRA(reader.model, self.spec)
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        for module in self.spec.modules:
            # Dots divide a state's names.
            key = module.path.replace(".", "/")
            factor = torch.empty(1, r, module.in_features)
            nn.init.kaiming_uniform_(factor[0], a=5**0.5)
            self.lora_A[key] = nn.Parameter(factor)
            self.lora_B[key] = nn.Parameter(torch.zeros(1, module.out_features, r))
        self.to(reader.device)

    @property
    def weights(self) -> LoRAWeights:
        """The factors as an adapter batch of n = 1."""
        return LoRAWeights(
            self.spec,
            {key.replace("/", "."): factor for key, factor in self.lora_A.items()},
            {key.replace("/", "."): factor for key, factor in self.lora_B.items()},
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block every forward of the model runs with the adapter."""
        with self._functional.applied(self.weights):
            yield
