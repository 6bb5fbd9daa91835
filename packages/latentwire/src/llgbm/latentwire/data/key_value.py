"""Key-value retrieval: pairs to compress, one key to ask for; nothing but memory helps."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Any

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example


def check_pairs(pairs: int, keys: str) -> None:
    """Raise ConfigError unless an example of so many pairs can be drawn from the keys."""
    if (
        not keys
        or len(set(keys)) < len(keys)
        or any(key not in string.ascii_lowercase for key in keys)
    ):
        raise ConfigError(f"keys: expected different lower-case letters, got {keys!r}")
    if not 1 <= pairs <= len(keys):
        raise ConfigError(f"pairs: expected from 1 to {len(keys)}, one a key, got {pairs}")


def key_value_examples(
    count: int, pairs: int, seed: int, alphabet: Sequence[str] = string.ascii_lowercase
) -> list[Example]:
    """Examples such as context `: q7 m3 x1`, ending ` m`, answer `3`.

    Args:
        count: number of examples.
        pairs: of each; keys differ within an example.
        seed: of the draw.
        alphabet: keys, single characters.
    """
    rng = random.Random(f"{seed}:key-value")
    examples = []
    for _ in range(count):
        keys = rng.sample(list(alphabet), pairs)
        values = [rng.choice(string.digits) for _ in keys]
        # The colon: every key then has a space before it, as in a question, and is one token.
        context = ": " + " ".join(f"{key}{value}" for key, value in zip(keys, values, strict=True))
        place = rng.randrange(pairs)
        examples.append(Example(context, f" {keys[place]}", values[place]))
    return examples


def character_tokenizer() -> Any:
    """A tokenizer of printable ASCII with one token a character, and one a pair such as ` q7`.

    A space before a character or pair belongs to its token.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = string.digits + string.ascii_letters + string.punctuation + " \n"
    pairs = [key + value for key in string.ascii_lowercase for value in string.digits]
    words = [*characters, *pairs]
    names = ["<pad>", "<end>", "<unknown>", *words, *(f" {word}" for word in words)]
    vocabulary = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?(?:[a-z][0-9]|[\s\S])"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
        clean_up_tokenization_spaces=False,
    )
