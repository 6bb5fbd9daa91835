"""Answers that a reader writes after a prefix, greedily, with the decoding settings of seed 004."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.next_tokens import next_token_logits
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.prefix import Prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rows import build_rows
from llgbm.latentwire.scoring import cache_of, decode


@dataclass(frozen=True)
class DecodingConfig:
    """How answers are written.

    Args:
        max_new_tokens: at most so many.
        min_new_tokens: neither the end token nor a new line is written before so many others.
        eos_ban_steps: first steps at which the end token is not written; a line may end.
        first_token_temperature: the first token is drawn at this temperature; 0 takes the best.
        first_token_top_p: ... from the smallest set of tokens with this probability.
        seed: of that draw.
    """

    max_new_tokens: int = 24
    min_new_tokens: int = 0
    eos_ban_steps: int = 0
    first_token_temperature: float = 0.0
    first_token_top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not 0 <= self.min_new_tokens <= self.max_new_tokens:
            raise ConfigError(
                "decoding: expected 0 <= min_new_tokens <= max_new_tokens and at least 1 of the "
                f"latter, got {self.min_new_tokens}, {self.max_new_tokens}"
            )
        if self.eos_ban_steps < 0 or not 0 <= self.first_token_temperature < math.inf:
            raise ConfigError(
                "decoding: expected no negative ban or temperature, and a finite one, got "
                f"{self.eos_ban_steps}, {self.first_token_temperature:g}"
            )
        if not 0 < self.first_token_top_p <= 1:
            raise ConfigError(
                f"decoding: first_token_top_p: expected above 0, at most 1, "
                f"got {self.first_token_top_p:g}"
            )


@dataclass(frozen=True)
class Written:
    """Answers of one batch.

    Attributes:
        texts: first lines, special tokens left out.
        tokens: b lists of new token ids only, the end token left out (anchor rule 4).
        prefill_seconds: one forward of the whole prompt.
        decode_seconds: the rest.
    """

    texts: list[str]
    tokens: list[list[int]]
    prefill_seconds: float
    decode_seconds: float


@torch.no_grad()
def write(
    reader: Reader,
    prefix: Prefix,
    endings: Sequence[Sequence[int]],
    decoding: DecodingConfig | None = None,
) -> Written:
    """Write one line after [opening | prefix | ending] for every text of a batch.

    Args:
        reader: frozen.
        prefix: b prefixes; see `Prefix`.
        endings: b lists of token ids.
        decoding: settings; greedy, 24 tokens where None.

    Raises:
        PromptError: a prompt longer than the reader's context.
    """
    settings = decoding or DecodingConfig()
    rows = build_rows(reader, prefix, endings, padding_side="left")
    cache = cache_of(reader, prefix)
    wait_for_device(reader)
    begin = time.perf_counter()
    state = decode(reader, rows.embeds, rows.mask, prefix, cache).last_hidden_state[:, -1]
    wait_for_device(reader)
    middle = time.perf_counter()
    mask = rows.mask
    if prefix.cache_mask is not None:
        mask = torch.cat([prefix.cache_mask, mask], dim=1)

    def advance(chosen: Tensor, mask: Tensor) -> Tensor:
        output = reader.model.get_decoder()(
            inputs_embeds=reader.embed(chosen[:, None]),
            attention_mask=mask.long(),
            position_ids=mask.long().sum(1, keepdim=True) - 1,
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state[:, -1]

    written = write_on(reader, state, mask, advance, settings)
    wait_for_device(reader)
    texts = [reader.text_of(tokens) for tokens in written]
    return Written(texts, written, middle - begin, time.perf_counter() - middle)


def write_on(
    reader: Reader,
    state: Tensor,
    mask: Tensor,
    advance: Callable[[Tensor, Tensor], Tensor],
    settings: DecodingConfig,
) -> list[list[int]]:
    """Tokens of one line for every row of a batch, after a prompt that has been read.

    Args:
        reader: frozen.
        state: last hidden states [b, h] of the prompts.
        mask: [b, t] bool of everything read so far.
        advance: last hidden states [b, h] after tokens [b] int64 are read, too, at a mask
            [b, t + 1] that holds them.
        settings: of the decoding.

    Returns:
        b lists of new token ids, the end token left out.
    """
    written: list[list[int]] = [[] for _ in mask]
    open_rows = [True] * len(mask)
    draw = torch.Generator(device="cpu").manual_seed(settings.seed)
    for step in range(settings.max_new_tokens):
        chosen = choose_token(reader, state, step, settings, draw)
        for index, token in enumerate(chosen.tolist()):
            if open_rows[index]:
                open_rows[index] = not is_done(reader, token, written[index])
                if token != reader.end:
                    written[index].append(token)
        if not any(open_rows) or step + 1 == settings.max_new_tokens:
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        state = advance(chosen, mask)
    return written


def choose_token(
    reader: Reader, state: Tensor, step: int, settings: DecodingConfig, draw: torch.Generator
) -> Tensor:
    """Next token [b] from last hidden states [b, h]."""
    logits = next_token_logits(reader.model, state)
    if step < max(settings.eos_ban_steps, settings.min_new_tokens):
        logits[:, reader.end] = -torch.inf
    if step < settings.min_new_tokens:
        logits[:, reader.new_lines] = -torch.inf
    if step > 0 or settings.first_token_temperature == 0:
        return logits.argmax(-1)
    chances, order = (logits / settings.first_token_temperature).softmax(-1).sort(descending=True)
    # A token stays while those before it hold less than top_p: the best one always does.
    chances = chances * (chances.cumsum(-1) - chances < settings.first_token_top_p)
    place = torch.multinomial(chances.cpu(), 1, generator=draw).to(order.device)
    return order.gather(1, place)[:, 0]


def is_done(reader: Reader, token: int, before: list[int]) -> bool:
    """Whether a row is done: the end token, or the end of a line that holds something."""
    if token == reader.end:
        return True
    return reader.holds_new_line(token) and bool(reader.text_of([*before, token]))


def waited(reader: Reader) -> float:
    """The time, once the reader's device has done what it was given."""
    wait_for_device(reader)
    return time.perf_counter()


def wait_for_device(reader: Reader) -> None:
    """Return when all that the reader's device was asked is done: seconds are then its own."""
    if reader.device.type == "cuda":
        torch.cuda.synchronize(reader.device)
