"""A generator's training step on random teachers, and the seed's way of computing deltas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llgbm.bench.one_adapter import one_adapter
from llgbm.deltas.delta import compute_base_activation
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.graphed import factors_of
from llgbm.deltas.packing import TokenTree, pack
from llgbm.deltas.probes import TokenizedProbes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.spec import LoRASpec, device_of, linear_modules
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.generator import GeneratorConfig, LoRAGenerator
from llgbm.generators.losses import Objective, Step
from llgbm.generators.losses.step import ComputesDelta
from llgbm.generators.teachers.batched import answer_losses
from llgbm.generators.training.behaviour import Behaviour

CONDITION_TEXTS, ANSWER_TOKENS = 8, 2


@dataclass(frozen=True)
class HookedBehaviour:
    """Deltas one adapter at a time, by forward hooks (seed 002's FunctionalLoRA).

    Attributes:
        behaviour: whose model and probes.
        base_activation: [p, layers, hidden], of the base attending as transformers runs it: minus
            that of another attention, rounding would pass for a delta.
    """

    behaviour: Behaviour
    base_activation: Tensor

    @classmethod
    def of(cls, behaviour: Behaviour) -> HookedBehaviour:
        """Run the base once, without hooks."""
        with torch.no_grad():
            return cls(behaviour, last_tokens(behaviour))

    def __call__(self, weights: LoRAWeights) -> Tensor:
        """Deltas [n, p, layers, hidden] float32, differentiable."""
        linears = linear_modules(self.behaviour.model, weights.spec)
        deltas = []
        for i in range(weights.n):
            with one_adapter(linears, weights, i):
                deltas.append(last_tokens(self.behaviour) - self.base_activation)
        return torch.stack(deltas)

    def log_probabilities(self, deltas: Tensor) -> Tensor:
        """See Behaviour."""
        return self.behaviour.log_probabilities(deltas)


def last_tokens(behaviour: Behaviour) -> Tensor:
    """States of the last token of each probe as the model now is, [p, layers, hidden] float32."""
    model: Any = behaviour.model
    ids = behaviour.probes.input_ids.to(device_of(model))
    output = model.get_decoder()(input_ids=ids, use_cache=False, output_hidden_states=True)
    layers = [output.hidden_states[layer][:, -1] for layer in behaviour.spec.layers]
    return torch.stack(layers, dim=1).float()


class GeneratorWorkload:
    """A generator, n random teachers with their deltas, and steps of any objective.

    Args:
        model: frozen base.
        n: adapters of a step.
        p: probes.
        t: tokens of each probe.
        r: rank.
        codes: of the full-width decoder.
        examples: answered questions of each adapter, for the task loss.
        seed: of everything random.
    """

    def __init__(
        self, model: Any, n: int, p: int, t: int, r: int, codes: int, examples: int, seed: int
    ) -> None:
        self.model, device = model, device_of(model)
        random = torch.Generator().manual_seed(seed)
        spec = LoRASpec.from_model(model, r, 2.0 * r)
        initial = LoRAWeights.initial(spec, n, random)
        lora_B = {
            path: 5e-3 * torch.randn(factor.shape, generator=random)
            for path, factor in initial.lora_B.items()
        }
        teachers = LoRAWeights(spec, initial.lora_A, lora_B)
        vocabulary = model.config.get_text_config().vocab_size
        ids = torch.randint(5, vocabulary, (p, t), generator=random)
        probes = TokenizedProbes(ids, torch.full((p,), t), "bench")
        deltas = recommended_deltas(model)
        base = compute_base_activation(model, probes, deltas)
        self.behaviour = Behaviour(model, probes, deltas, base)
        self.hooked = HookedBehaviour.of(self.behaviour)
        self.teachers = teachers.to(device)
        with torch.no_grad():
            self.deltas = self.behaviour(self.teachers)
        config = GeneratorConfig(decoder=FullWidthConfig(codes=codes))
        generator = LoRAGenerator(config, spec, tuple(self.deltas.shape[1:]), seed)
        generator.fit_scales(teachers, self.deltas.cpu())
        self.generator = generator.to(device)
        embeddings = torch.randn(n, CONDITION_TEXTS, 384, generator=random) / 384**0.5
        mask = torch.ones(n, CONDITION_TEXTS, dtype=torch.bool)
        self.conditions = ConditionBatch(embeddings, mask).to(device)
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr=1e-5)
        self.lora = FunctionalLoRA(model, spec)
        questions = torch.randint(5, vocabulary, (n, examples, t), generator=random).tolist()
        self.packed = pack(
            [
                [
                    TokenTree(tuple(ids[:-ANSWER_TOKENS]), (tuple(ids[-ANSWER_TOKENS:]),))
                    for ids in own
                ]
                for own in questions
            ]
        )

    def step(self, objective: Objective, number: int, behaviour: ComputesDelta) -> None:
        """Take one optimiser step of an objective."""
        loss = objective(
            Step(
                number,
                self.generator(self.conditions),
                self.teachers,
                self.deltas,
                behaviour,
                lambda weights: answer_losses(self.model, self.lora, weights, self.packed),
            )
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()

    def behaviour_alone(
        self, behaviour: Behaviour | HookedBehaviour
    ) -> tuple[Tensor, list[Tensor]]:
        """Deltas of the teachers and gradients of a scalar to their factors."""
        weights = self.teachers.map(lambda factor: factor.detach().requires_grad_())
        deltas = behaviour(weights)
        signs = torch.linspace(-1, 1, deltas.shape[-1], device=deltas.device)
        gradients = torch.autograd.grad((deltas * signs).mean(), factors_of(weights))
        return deltas.detach(), list(gradients)

    @property
    def task_tokens(self) -> int:
        """Tokens of the tasks' examples in a step."""
        return self.packed.input_ids.numel()

    def tasks_alone(self) -> None:
        """The task loss of the teachers and its gradients to their factors."""
        weights = self.teachers.map(lambda factor: factor.detach().requires_grad_())
        losses = answer_losses(self.model, self.lora, weights, self.packed)
        torch.autograd.grad(losses.mean(), factors_of(weights))

    def base_alone(self) -> None:
        """The frozen base on as many sequences, with the gradient of its input only."""
        ids = self.behaviour.probes.input_ids.to(device_of(self.model))
        ids = ids.repeat(self.teachers.n, 1)
        embedded = self.model.get_input_embeddings()(ids).detach().requires_grad_()
        states = self.model.get_decoder()(inputs_embeds=embedded, use_cache=False)
        torch.autograd.grad(states.last_hidden_state[:, -1].float().mean(), embedded)
