"""Prepared: delta caches and training inputs that many trainings of an experiment share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import nn

from llgbm.generators.experiments.prepare import prepare_deltas
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.inputs import TrainingInputs, inputs_of
from llgbm.generators.training.settings import TrainingSettings

Training = TypeVar("Training", bound=TrainingSettings)


@dataclass
class Prepared:
    """Teachers are read and hashed once for every kind of input, not once a generator.

    Args:
        run: folder with the teachers.
        manifest: its teachers.
        model: the loaded base.
    """

    run: RunFolder
    manifest: Manifest
    model: nn.Module
    _caches: dict[Any, str] = field(default_factory=dict, init=False)
    _inputs: dict[Any, TrainingInputs] = field(default_factory=dict, init=False)

    def cached(self, training: Training) -> Training:
        """The same training, reading a delta cache that holds what it asks for."""
        key = (training.probes, training.chosen_deltas)
        if key not in self._caches:
            self._caches[key] = prepare_deltas(self.run, self.manifest, self.model, *key)
        return replace(training, delta_cache=self._caches[key])

    def inputs(self, training: TrainingSettings) -> TrainingInputs:
        """What a training of `cached` is trained on."""
        key = (
            training.probes,
            training.chosen_deltas,
            training.delta_cache,
            training.condition_texts,
            training.conditions.validated_by,
        )
        if key not in self._inputs:
            self._inputs = {key: inputs_of(training)}  # one at a time: they hold all teachers
        return self._inputs[key]
