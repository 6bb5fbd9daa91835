"""A tiny reader that is taught key-value retrieval from text in seconds: proves learning in tests.

Two layers of width 64 that learn to look a key up in their context, and are then frozen. A
compressor for it is trained and evaluated by the same code as for any other reader.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from llgbm.deltas.errors import RunError, require_at_least, require_seed
from llgbm.latentwire.data.key_value import character_tokenizer, check_pairs, key_value_examples
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.training.schedule import learning_rate_factor


@dataclass(frozen=True)
class TinyReaderConfig:
    """Sizes and training of the tiny reader.

    Args:
        layers: decoder layers.
        width: hidden size.
        pairs: key-value pairs of a context.
        keys: characters that keys are drawn from.
        steps: optimiser steps.
        batch_size: examples of a step, all of them new.
        lr: highest learning rate.
        seed: of the start and the examples.
    """

    layers: int = 2
    width: int = 64
    pairs: int = 8
    keys: str = "abcdefghijklmnop"
    steps: int = 300
    batch_size: int = 64
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, layers=self.layers, steps=self.steps, batch_size=self.batch_size)
        require_at_least(0, lr=self.lr)
        if self.lr > 1:
            raise ConfigError(f"lr: expected at most 1, got {self.lr:g}")
        require_seed(self.seed)
        check_pairs(self.pairs, self.keys)
        if self.width < 8 or self.width % 8:
            # Four heads, each of an even width.
            raise ConfigError(f"width: expected a multiple of 8, got {self.width}")


def teach_tiny_reader(config: TinyReaderConfig) -> tuple[Reader, float]:
    """Train a reader from nothing on text; return it frozen, with the accuracy of its last steps.

    Args:
        config: sizes and training.

    Raises:
        RunError: a loss that is not finite.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=2 * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=256,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                tie_word_embeddings=True,
                # Attention of so narrow a model hardly starts to move at the usual 0.02.
                initializer_range=config.width**-0.5,
            )
        )
    reader = Reader(model.requires_grad_(False), tokenizer, "tiny")
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.01)
    right: list[float] = []
    bar = tqdm(range(config.steps), desc="tiny reader", unit="step", mininterval=1.0)
    for step in bar:
        seed = config.seed * config.steps + step
        ids, asked = all_questions(
            reader, key_value_examples(config.batch_size, config.pairs, seed, config.keys), seed
        )
        for group in optimizer.param_groups:
            group["lr"] = config.lr * learning_rate_factor(step, config.steps, 0.1)
        output = model(input_ids=ids, use_cache=False).logits
        logits, targets = output[:, asked - 1], ids[:, asked]
        # After every value the answer is at its end, whatever the row goes on with.
        ends = torch.full_like(targets, reader.end)
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss = loss + cross_entropy(output[:, asked].flatten(0, 1), ends.flatten())
        if not torch.isfinite(loss):
            raise RunError("tiny reader: expected a finite loss, got NaN or Inf: lower lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        right.append(float((logits.argmax(-1) == targets).float().mean()))
        bar.set_postfix(accuracy=f"{right[-1]:.2f}", refresh=False)
    model.requires_grad_(False).eval()
    last = right[-20:]
    return reader, sum(last) / len(last)


def all_questions(reader: Reader, examples: Sequence[Example], seed: int) -> tuple[Tensor, Tensor]:
    """Contexts followed by as many of their pairs, drawn anew: one row asks several times.

    Drawn with replacement: nothing can be told from what was asked before.

    Returns:
        (ids, asked): [b, t] int64, and the positions [pairs] of the values in the second half.
    """
    rng = random.Random(f"{seed}:questions")
    rows = []
    for example in examples:
        pairs = example.context.split()[1:]
        asked = [f" {pair[0]} {pair[1]}" for pair in rng.choices(pairs, k=len(pairs))]
        rows.append(reader.tokens(example.context + "".join(asked)))
    ids = torch.tensor(rows, device=reader.device)
    count = (ids.shape[1] - 1) // 3
    return ids, ids.shape[1] - 2 * count + 1 + 2 * torch.arange(count, device=reader.device)
