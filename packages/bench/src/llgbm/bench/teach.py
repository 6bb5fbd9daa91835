"""`llgbm-bench teach`: a training step of n teachers at once, against PEFT one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.bench.errors import GateError
from llgbm.bench.memory import peak_mib
from llgbm.bench.models import bench_model
from llgbm.bench.results import results_of, rows_of
from llgbm.bench.timing import interleaved
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.graphed import factors_of
from llgbm.deltas.spec import LoRASpec, device_of
from llgbm.deltas.weights import LoRAWeights

# Largest relative error of all gradients together against PEFT's.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}
LEARNING_RATE = 1e-4
# Tokens of a sequence that the loss is of: as few as answers have, and more for the check.
TIMED_SHARE, CHECKED_SHARE = 1 / 16, 1 / 4


@dataclass(frozen=True)
class TeachConfig:
    """Time one optimiser step of n adapters, each on its own sequences.

    Args:
        model: a base model, or `random:...` as in delta-forward.
        dtype: of the base; `auto` is bfloat16 where the hardware has it.
        n: adapters.
        sequences: of each adapter in a step.
        t: tokens of each sequence.
        r: rank.
        repeats: rounds; every rival runs once in each.
        out: JSON file of results; nothing is written where not given.
        seed: of adapters, tokens and random weights.
    """

    model: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    n: int = 8
    sequences: int = 4
    t: int = 48
    r: int = 8
    repeats: int = 5
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, n=self.n, sequences=self.sequences, r=self.r, repeats=self.repeats)
        require_at_least(2, t=self.t)  # of one token there is no next
        require_seed(self.seed)


class TeachWorkload:
    """n adapters, their sequences, and both ways to take a step.

    Args:
        model: frozen base.
        config: sizes.
    """

    def __init__(self, model: Any, config: TeachConfig) -> None:
        from peft import LoraConfig, get_peft_model

        self.model = model
        self.scored_share = TIMED_SHARE
        device = device_of(model)
        generator = torch.Generator().manual_seed(config.seed)
        spec = LoRASpec.from_model(model, config.r, 2.0 * config.r)
        initial = LoRAWeights.initial(spec, config.n, generator, shared_A=False)
        lora_B = {
            path: 5e-3 * torch.randn(factor.shape, generator=generator)
            for path, factor in initial.lora_B.items()
        }
        self.weights = LoRAWeights(spec, initial.lora_A, lora_B).to(device)
        vocabulary = model.config.get_text_config().vocab_size
        shape = (config.n, config.sequences, config.t)
        self.ids = torch.randint(5, vocabulary, shape, generator=generator).to(device)
        self.lora = FunctionalLoRA(model, spec)
        self.stacked = self.weights.map(lambda factor: factor.clone().requires_grad_())
        self.optimizer = torch.optim.AdamW(factors_of(self.stacked), lr=LEARNING_RATE)
        adapter = LoraConfig(
            r=spec.r,
            lora_alpha=int(spec.lora_alpha),
            target_modules=list(spec.paths),
            lora_dropout=0.0,
        )
        self.peft = get_peft_model(copy.deepcopy(model), adapter).eval()
        modules = dict(self.peft.named_modules())
        self.parameters: list[Tensor] = []
        for path in spec.paths:
            layer: Any = modules[f"base_model.model.{path}"]
            self.parameters += [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        # Each teacher keeps its own factors and its own optimiser state, as n PEFT runs would.
        self.alone = [
            [factor[i].clone() for factor in factors_of(self.weights)] for i in range(config.n)
        ]
        self.optimizers = [
            torch.optim.AdamW(self.parameters, lr=LEARNING_RATE) for _ in range(config.n)
        ]

    def loss(self, body: Any, ids: Tensor) -> Tensor:
        """Next-token cross-entropy of the last tokens, summed: ids [b, t]."""
        scored = max(1, int(ids.shape[1] * self.scored_share))
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state[:, -scored - 1 : -1]
        # Flat and contiguous: else the head's backward copies its weight for every sequence.
        logits = self.model.get_output_embeddings()(hidden.flatten(0, 1)).float()
        return F.cross_entropy(logits, ids[:, -scored:].flatten(), reduction="sum")

    def batched_gradients(self) -> list[Tensor]:
        """Gradients of all factors, [n, ...] each, from one forward and backward."""
        with self.lora.applied(self.stacked):
            total = self.loss(self.model.get_decoder(), self.ids.flatten(0, 1))
        return list(torch.autograd.grad(total, factors_of(self.stacked)))

    def peft_gradients(self, i: int) -> list[Tensor]:
        """Gradients of teacher i's factors from PEFT."""
        with torch.no_grad():
            for parameter, factor in zip(self.parameters, self.alone[i], strict=True):
                parameter.copy_(factor)
        body = self.peft.base_model.model.get_decoder()
        return list(torch.autograd.grad(self.loss(body, self.ids[i]), self.parameters))

    def batched(self) -> None:
        """One step of all teachers at once."""
        for factor, gradient in zip(
            factors_of(self.stacked), self.batched_gradients(), strict=True
        ):
            factor.grad = gradient
        self.optimizer.step()

    def peft_loop(self) -> None:
        """One step of each teacher, one after another."""
        for i, optimizer in enumerate(self.optimizers):
            for parameter, gradient in zip(self.parameters, self.peft_gradients(i), strict=True):
                parameter.grad = gradient
            optimizer.step()
            self.alone[i] = [parameter.detach().clone() for parameter in self.parameters]

    def base_alone(self) -> None:
        """The frozen base with its head and the gradient of its input, on as many sequences."""
        ids = self.ids.flatten(0, 1)
        embedded = self.model.get_input_embeddings()(ids).detach().requires_grad_()

        def body(input_ids: Tensor, use_cache: bool) -> Any:
            return self.model.get_decoder()(inputs_embeds=embedded, use_cache=use_cache)

        torch.autograd.grad(self.loss(body, ids), embedded)

    def gradient_error(self) -> float:
        """Relative error of the batched gradients, all together, against PEFT's.

        Over more tokens than are timed: the fewer, the more of a gradient is rounding.
        """
        self.scored_share = CHECKED_SHARE
        together = self.batched_gradients()
        off = size = 0.0
        for i in range(len(self.ids)):
            for mine, theirs in zip(together, self.peft_gradients(i), strict=True):
                off += float((mine[i] - theirs).double().square().sum())
                size += float(theirs.double().square().sum())
        self.scored_share = TIMED_SHARE
        return float((off / max(size, 1e-30)) ** 0.5)


def teach(config: TeachConfig) -> dict[str, Any]:
    """Check the gradients, time the steps, print the table, write the file.

    Raises:
        GateError: gradients that differ from PEFT's.
    """
    model = bench_model(config.model, config.dtype, config.seed)
    dtype = next(model.parameters()).dtype
    workload = TeachWorkload(model, config)
    error = workload.gradient_error()
    if not error <= TOLERANCE[dtype]:
        raise GateError("batched", TOLERANCE[dtype], dtype, error)
    works: dict[str, Callable[[], object]] = {
        "batched": workload.batched,
        "peft_loop": workload.peft_loop,
        "base_alone": workload.base_alone,
    }
    peaks = {name: peak_mib(work) for name, work in works.items()}
    timings = interleaved(works, config.repeats)
    rows = rows_of(timings, peaks, {"batched": error}, workload.ids.numel(), config.n)
    results = results_of("teach", config, device_of(model), dtype, rows=rows)
    print(
        f"{config.model}: a step of n={config.n} teachers, {config.sequences} x {config.t} tokens"
    )
    for name, row in rows.items():
        print(
            f"{name:<14}{row['median_ms']:>10.1f} ms{row['tokens_per_s']:>9.0f} tokens/s"
            f"{row['times_base']:>7.2f} x base{row['peak_mib']:>8.0f} MiB"
        )
    if config.out is not None:
        write_json(config.out, results)
    return results
