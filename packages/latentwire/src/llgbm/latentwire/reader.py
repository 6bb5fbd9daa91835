"""A frozen reader: greedy answers and answer likelihoods, from token ids or from embeddings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.packing import TokenTree, pack
from llgbm.deltas.sliding_window import layer_masks
from llgbm.deltas.spec import device_of


@dataclass(frozen=True)
class Answers:
    """Greedy answers.

    Attributes:
        texts: up to the end of the first line.
        prefill_seconds: one forward of all prompts.
        decode_seconds: the rest of the generation.
    """

    texts: list[str]
    prefill_seconds: float
    decode_seconds: float


def left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids [b, t] and attention mask [b, t], padding on the left where generation needs it."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    return ids, mask


@torch.no_grad()
def answer(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 24,
    batch_size: int = 8,
    as_embeddings: bool = False,
) -> Answers:
    """Answer every prompt greedily.

    Args:
        model: frozen reader.
        tokenizer: of the reader.
        prompts: token ids, none empty.
        max_new_tokens: at most so many.
        batch_size: prompts of one batch, of like length.
        as_embeddings: give the reader the embeddings of the ids instead of the ids (embedding
            replay): the way that latents come in.
    """
    device = device_of(model)
    texts = [""] * len(prompts)
    prefill = decode = 0.0
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = left_padded([prompts[row] for row in rows], tokenizer.pad_token_id)
        ids, mask = ids.to(device), mask.to(device)
        begin = time.perf_counter()
        model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=True)
        middle = time.perf_counter()
        inputs = {"input_ids": ids}
        if as_embeddings:
            inputs = {"inputs_embeds": model.get_input_embeddings()(ids)}
        output = model.generate(
            **inputs,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        # From embeddings, `generate` returns the new tokens only (anchor rule 4).
        new = output if as_embeddings else output[:, ids.shape[1] :]
        prefill += middle - begin
        decode += max(0.0, time.perf_counter() - middle - (middle - begin))
        for row, text in zip(
            rows, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True
        ):
            lines = text.strip().splitlines()
            texts[row] = lines[0].strip() if lines else ""
    return Answers(texts, prefill, decode)


@dataclass(frozen=True)
class Likelihood:
    """How well the reader predicts gold answers.

    Attributes:
        nll: nats a token, over all tokens of all answers.
        first_at_1: share of answers whose first token is the reader's first guess.
        first_at_5: ... is among its first five.
    """

    nll: float
    first_at_1: float
    first_at_5: float


@torch.no_grad()
def likelihood(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], answers: Sequence[str]
) -> Likelihood:
    """Teacher-forced likelihood of ` answer` after each prompt.

    Args:
        model: frozen reader.
        tokenizer: of the reader.
        prompts: token ids.
        answers: one gold answer a prompt.
    """
    device = device_of(model)
    total = count = 0.0
    first: list[tuple[bool, bool]] = []
    for prompt, gold in zip(prompts, answers, strict=True):
        ids = tuple(tokenizer(f" {gold}", add_special_tokens=False)["input_ids"])
        batch = pack([[TokenTree(tuple(prompt), (ids,))]]).to(device)
        hidden = model.get_decoder()(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=layer_masks(model, batch),
            use_cache=False,
        ).last_hidden_state.flatten(0, 1)
        logits = model.get_output_embeddings()(hidden[batch.source]).float()
        total -= float(logits.log_softmax(-1).gather(1, batch.target[:, None]).sum())
        count += len(ids)
        best = logits[0].topk(min(5, logits.shape[-1])).indices.tolist()
        first.append((best[0] == ids[0], ids[0] in best))
    return Likelihood(
        total / count,
        sum(one for one, _ in first) / len(first),
        sum(five for _, five in first) / len(first),
    )
