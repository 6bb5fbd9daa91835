"""Ways to run n adapters over the same probes, forward and backward to the factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.bench.one_adapter import one_adapter
from llgbm.deltas.delta import DeltaSpec, compute_base_activation
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.graphed import graphed_delta
from llgbm.deltas.probes import TokenizedProbes
from llgbm.deltas.short_attention import short_attention
from llgbm.deltas.spec import linear_modules
from llgbm.deltas.weights import LoRAWeights

# ids [p, t] -> (last hidden states [n, p, hidden] float32, detached; gradients of A and B)
Outcome = tuple[Tensor, list[Tensor]]
# (output [n p, t, out], x [n p, t, in], A, B, scaling) -> output with the adapters' part
Update = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def scalar(states: Tensor) -> Tensor:
    """A fixed signed mean of states [..., hidden].

    Not their square: after the final norm it is all but constant, and its gradient is what
    rounding leaves of a cancellation.
    """
    return (states * torch.linspace(-1, 1, states.shape[-1], device=states.device)).mean()


def _add(output: Tensor, x: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    n = len(A)
    u = torch.bmm(x.reshape(n, -1, x.shape[-1]), A.to(x.dtype).mT)
    return output + scaling * torch.bmm(u, B.to(x.dtype).mT).view(output.shape)


def _add_in_place(output: Tensor, x: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    n = len(A)
    u = torch.bmm(x.reshape(n, -1, x.shape[-1]), A.to(x.dtype).mT)
    output.view(n, -1, output.shape[-1]).baddbmm_(u * scaling, B.to(x.dtype).mT)
    return output


@cache
def _compiled(add: Update) -> Update:
    return torch.compile(add)


class Workload:
    """One model, one probe batch, n adapters whose factors want gradients."""

    def __init__(self, model: Any, weights: LoRAWeights, ids: Tensor) -> None:
        self.model, self.ids = model, ids
        self.weights = weights.map(lambda factor: factor.detach().requires_grad_())
        self.lora = FunctionalLoRA(model, weights.spec)
        self.linears = linear_modules(model, weights.spec)
        self.attention = partial(short_attention, model, ids.shape[1])
        self._peft: Any = None
        self._graphed: Callable[[], Tensor] | None = None

    def factors(self) -> list[Tensor]:
        """All factors, A and B of each module."""
        weights = self.weights
        return [f for p in weights.spec.paths for f in (weights.lora_A[p], weights.lora_B[p])]

    def last(self, model: Any, ids: Tensor) -> Tensor:
        """Hidden state of the last token after the final norm, float32."""
        return model(input_ids=ids, use_cache=False).last_hidden_state[:, -1].float()

    def finish(self, states: Tensor) -> Outcome:
        """Backward of a fixed scalar to all factors."""
        return states.detach(), list(torch.autograd.grad(scalar(states), self.factors()))

    def batched(self) -> Outcome:
        """FunctionalLoRA: all adapters in one forward, attending as `compute_delta` does."""
        n = self.weights.n
        with self.lora.applied(self.weights, around=self.attention):
            states = self.last(self.model.get_decoder(), self.ids.repeat(n, 1))
        return self.finish(states.view(n, len(self.ids), -1))

    def batched_checkpointed(self) -> Outcome:
        """The same, keeping only what enters each layer."""
        n = self.weights.n
        with self.lora.applied(self.weights, checkpoint=True, around=self.attention):
            states = self.last(self.model.get_decoder(), self.ids.repeat(n, 1))
        return self.finish(states.view(n, len(self.ids), -1))

    def inplace_baddbmm(self) -> Outcome:
        """All adapters at once by forward hooks, added in place under autograd."""
        return self._batched_by_hooks(_add_in_place)

    def eager_bmm(self) -> Outcome:
        """All adapters at once by forward hooks, plain products under autograd."""
        return self._batched_by_hooks(_add)

    def compiled_baddbmm(self) -> Outcome:
        """`inplace_baddbmm` with each linear's update compiled."""
        return self._batched_by_hooks(_compiled(_add_in_place))

    def compiled_bmm(self) -> Outcome:
        """`eager_bmm` with each linear's update compiled."""
        return self._batched_by_hooks(_compiled(_add))

    def _batched_by_hooks(self, add: Update) -> Outcome:
        n, scaling = self.weights.n, self.weights.spec.scaling
        handles = []
        for path, linear in self.linears.items():
            A, B = self.weights.lora_A[path], self.weights.lora_B[path]

            def hook(
                module: nn.Module, inputs: Any, output: Tensor, A: Tensor = A, B: Tensor = B
            ) -> Tensor:
                return add(output, inputs[0], A, B, scaling)

            handles.append(linear.register_forward_hook(hook))
        states = self.last(self.model.get_decoder(), self.ids.repeat(n, 1))
        for handle in handles:
            handle.remove()
        return self.finish(states.view(n, len(self.ids), -1))

    def graphed(self) -> Outcome:
        """`graphed_delta`: the step of `batched` as a replayed CUDA graph."""
        if self._graphed is None:
            tokens = TokenizedProbes(
                self.ids, torch.full((len(self.ids),), self.ids.shape[1]), "bench"
            )
            spec = DeltaSpec(aggregation="per_probe")
            base = compute_base_activation(self.model, tokens, spec)
            graphed = graphed_delta(self.model, self.weights.spec, self.weights.n, tokens, spec)
            self._graphed = lambda: graphed(self.weights).squeeze(2) + base.squeeze(1)
        return self.finish(self._graphed())

    def hook_loop(self) -> Outcome:
        """Forward hooks that add the update, one adapter at a time (seed 002's FunctionalLoRA)."""
        states = []
        for i in range(self.weights.n):
            with one_adapter(self.linears, self.weights, i):
                states.append(self.last(self.model.get_decoder(), self.ids))
        return self.finish(torch.stack(states))

    def functional_call_loop(self) -> Outcome:
        """`torch.func.functional_call` on a PEFT model, one adapter at a time."""
        peft_model = self._peft_model()
        states = []
        for i in range(self.weights.n):
            parameters = {}
            for path in self.weights.spec.paths:
                for name, factors in (
                    ("lora_A", self.weights.lora_A),
                    ("lora_B", self.weights.lora_B),
                ):
                    parameters[f"base_model.model.{path}.{name}.default.weight"] = factors[path][i]
            output = torch.func.functional_call(
                peft_model,
                parameters,
                kwargs={
                    "input_ids": self.ids,
                    "use_cache": False,
                    "output_hidden_states": True,
                    "logits_to_keep": 1,
                },
            )
            states.append(output.hidden_states[-1][:, -1].float())
        return self.finish(torch.stack(states))

    def peft_loop(self) -> Outcome:
        """PEFT, one adapter at a time: its parameters are overwritten, gradients read off."""
        peft_model = self._peft_model()
        modules = dict(peft_model.named_modules())
        n, states = self.weights.n, []
        gradients = [torch.zeros_like(factor) for factor in self.factors()]
        for i in range(n):
            parameters = []
            for path in self.weights.spec.paths:
                layer = modules[f"base_model.model.{path}"]
                for name, factors in (
                    ("lora_A", self.weights.lora_A),
                    ("lora_B", self.weights.lora_B),
                ):
                    parameter = getattr(layer, name)["default"].weight
                    with torch.no_grad():
                        parameter.copy_(factors[path][i])
                    parameters.append(parameter)
            output = self.last(peft_model.base_model.model.get_decoder(), self.ids)
            loss = scalar(output) / n
            for place, gradient in enumerate(torch.autograd.grad(loss, parameters)):
                gradients[place][i] = gradient
            states.append(output.detach())
        return torch.stack(states), gradients

    def base_alone(self) -> Outcome:
        """The frozen base on the same number of sequences, with the gradient of its input only."""
        n = self.weights.n
        ids = self.ids.repeat(n, 1)
        embedded = self.model.get_input_embeddings()(ids).detach().requires_grad_()
        output = self.model.get_decoder()(inputs_embeds=embedded, use_cache=False)
        states = output.last_hidden_state[:, -1].float()
        torch.autograd.grad(scalar(states), embedded)
        return states.detach().view(n, len(self.ids), -1), []

    def _peft_model(self) -> Any:
        """A PEFT copy of the model: wrapping changes it in place, so the copy is wrapped."""
        if self._peft is None:
            from peft import LoraConfig, get_peft_model

            spec = self.weights.spec
            config = LoraConfig(
                r=spec.r,
                lora_alpha=int(spec.lora_alpha),
                target_modules=list(spec.paths),
                lora_dropout=0.0,
            )
            # One config for both: what changes the attention of one changes that of the other.
            shared = {id(self.model.config): self.model.config}
            self._peft = get_peft_model(deepcopy(self.model, shared), config).eval()
        return self._peft


RIVALS: dict[str, Callable[[Workload], Outcome]] = {
    "batched": Workload.batched,
    "batched_checkpointed": Workload.batched_checkpointed,
    "inplace_baddbmm": Workload.inplace_baddbmm,
    "eager_bmm": Workload.eager_bmm,
    "hook_loop": Workload.hook_loop,
    "peft_loop": Workload.peft_loop,
    "functional_call_loop": Workload.functional_call_loop,
}
# Where there is a GPU: replayed graphs, and what torch.compile makes of the batched rivals.
CUDA_RIVALS: dict[str, Callable[[Workload], Outcome]] = {
    "batched_graphed": Workload.graphed,
    "compiled_baddbmm": Workload.compiled_baddbmm,
    "compiled_bmm": Workload.compiled_bmm,
}

# Those that attend as `compute_delta` does by themselves.
OURS = frozenset({"batched", "batched_checkpointed", "batched_graphed"})


def in_short_attention(
    rivals: Mapping[str, Callable[[Workload], Outcome]],
) -> dict[str, Callable[[Workload], Outcome]]:
    """The rivals that are not `OURS` as `NAME_short_attention`: attending as ours do."""

    def short(rival: Callable[[Workload], Outcome], workload: Workload) -> Outcome:
        with workload.attention():
            return rival(workload)

    return {
        f"{name}_short_attention": partial(short, rival)
        for name, rival in rivals.items()
        if name not in OURS
    }


def rivals_here() -> dict[str, Callable[[Workload], Outcome]]:
    """The rivals that this machine can run."""
    return {**RIVALS, **(CUDA_RIVALS if torch.cuda.is_available() else {})}
