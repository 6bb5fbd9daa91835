"""The rank-1 adversary: an edit of the last down_proj with a given mean delta.

Hidden states after the last layer, averaged over five probes, are `hidden` numbers; an edit
b aᵀ of the last down_proj has as many in b alone. So it can have nearly any mean delta, whatever
the adapter that the delta came from does elsewhere (anchors: corrections, 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.base_models import decoder_body
from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta, tokenized
from llgbm.deltas.errors import ModelError
from llgbm.deltas.probes import ProbeSet, TokenizedProbes
from llgbm.deltas.spec import LoRASpec, device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.fitted_adversary import chosen

MODULE = "down_proj"
STEPS, LR = 80, 0.1
# Relative squared error at which the matching stops: a cosine of about 0.995.
CLOSE = 1e-2


def match_mean_delta(
    model: nn.Module, probes: ProbeSet | TokenizedProbes, target: Tensor, steps: int = STEPS
) -> LoRAWeights:
    """Return rank-1 edits of the last layer's down_proj whose mean deltas are `target`.

    a is the smallest vector that every probe's last token meets with 1, in closed form; b is
    optimised through the frozen last layer by Adam on the relative squared error.

    Args:
        model: frozen base with numbered decoder layers that hold a `down_proj`.
        probes: p texts.
        target: [n, hidden] float32, mean deltas of the last hidden state (the default DeltaSpec).
        steps: at most so many.

    Returns:
        n adapters of rank 1 on one module, float32, on the model's device.

    Raises:
        ModelError: the model has no `down_proj`.
        ValueError: a target of another shape, or one of zeros.
    """
    spec = last_module(model)
    tokens = tokenized(model, probes)
    device = device_of(model)
    target = target.to(device).float()
    squares = target.square().sum(-1)
    base = compute_base_activation(model, tokens, DeltaSpec())
    if target.dim() != 2 or target.shape[1:] != base.shape or not bool((squares > 0).all()):
        raise ValueError(f"target: expected nonzero [n, {len(base)}], got {tuple(target.shape)}")
    entering, leaving = _last_tokens(model, spec, tokens)
    # Entering vectors of like probes are nearly parallel: the smallest solution stays bounded.
    row = torch.linalg.pinv(entering, rtol=1e-3) @ entering.new_ones(len(entering))
    n, path = target.shape[0], spec.paths[0]
    lora_A = {path: row.expand(n, 1, -1).contiguous()}

    def edits(column: Tensor) -> LoRAWeights:
        return LoRAWeights(spec, lora_A, {path: column[..., None]})

    def deltas(weights: LoRAWeights) -> Tensor:
        return compute_delta(model, weights, tokens, DeltaSpec(), base)

    # The final norm scales what b adds by about one positive number a coordinate, so the target's
    # own direction is a start, and the delta that it gives says how long b must be.
    length = leaving.norm(dim=-1).mean()
    start = target / squares.sqrt()[:, None] * length
    with torch.no_grad():
        gain = deltas(edits(start)).norm(dim=-1) / length
    start = start / length * (squares.sqrt() / gain.clamp_min(1e-12))[:, None]
    unit = start.square().mean(-1, keepdim=True).sqrt()
    column = (start / unit).requires_grad_(True)
    optimizer = torch.optim.Adam([column], lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=LR / 50)

    best, closest = edits(start), torch.full((n,), float("inf"), device=device)
    with torch.enable_grad():
        for _ in range(steps):
            weights = edits(unit * column)
            errors = (deltas(weights) - target).square().sum(-1) / squares
            better = errors.detach() < closest
            closest = torch.where(better, errors.detach(), closest)
            best = chosen(better, weights.detach(), best)
            if bool((closest < CLOSE).all()):
                break
            optimizer.zero_grad(set_to_none=True)
            errors.sum().backward()
            optimizer.step()
            schedule.step()
    return best


def last_module(model: nn.Module) -> LoRASpec:
    """Return the spec of a rank-1 edit of the last layer's down_proj.

    Raises:
        ModelError: the model has no linear of that name.
    """
    whole = LoRASpec.from_model(model, 1, 1.0, (MODULE,))
    last = max(whole.modules, key=lambda module: module.layer)
    if last.layer < 0:
        raise ModelError(f"{last.path}: expected a module inside numbered layers, got none")
    return LoRASpec((last,), 1, 1.0)


def _last_tokens(
    model: nn.Module, spec: LoRASpec, tokens: TokenizedProbes
) -> tuple[Tensor, Tensor]:
    """What enters and leaves the base's module at each probe's last real token, float32.

    Returns:
        [p, in] and [p, out].
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        kept.extend([args[0], output])

    handle = model.get_submodule(spec.paths[0]).register_forward_hook(keep)
    run: Callable[..., Any] = decoder_body(model)
    try:
        with torch.no_grad():
            run(input_ids=tokens.input_ids.to(device_of(model)), use_cache=False)
    finally:
        handle.remove()
    rows = torch.arange(len(tokens.lengths), device=kept[0].device)
    ends = tokens.lengths.to(kept[0].device) - 1
    return kept[0][rows, ends].float(), kept[1][rows, ends].float()
