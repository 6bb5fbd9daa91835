"""A prompt as text and as latents: what is checked, and what is timed part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from random import Random

import torch

from llgbm.bench.errors import OtherTokensError
from llgbm.bench.models import bench_model, byte_tokenizer
from llgbm.deltas.errors import ModelError
from llgbm.deltas.tokenizers import tokenizer_of
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.data.squad import load_squad, question_ending
from llgbm.latentwire.evaluation.token_prompts import TokenPrompts
from llgbm.latentwire.generation import DecodingConfig, Written, waited, write
from llgbm.latentwire.latents import Latents, stack
from llgbm.latentwire.prefix import Prefix, replayed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import score
from llgbm.latentwire.wire.format import pack, unpack
from llgbm.latentwire.wire.identity import compressor_fingerprint

QUESTION = "What is this passage about?"
# Share of guesses that keys and values of every position have in common with the text: all in
# float32; rounded to 16 bits, keys that were turned back and forth decide some ties otherwise.
ALIKE = 0.9
# Places of a text that are tried before a number of tokens counts as out of reach.
TRIES = 200


@dataclass(eq=False)
class EndlessReader(Reader):
    """A reader for which no line ends: every answer then has as many tokens as are asked for."""

    def holds_new_line(self, token: int) -> bool:
        """Never."""
        return False


def bench_reader(model: str, dtype: str, seed: int) -> EndlessReader:
    """A frozen reader; models with random weights read bytes.

    Args:
        model: see `bench_model`.
        dtype: see `bench_model`.
        seed: of random weights.
    """
    loaded = bench_model(model, dtype, seed)
    random = model.startswith("random:")
    tokenizer = byte_tokenizer() if random else tokenizer_of(loaded)
    return EndlessReader(loaded, tokenizer, model)


def passages(reader: Reader, count: int, tokens: int, seed: int) -> list[str]:
    """Different passages that each have exactly so many of the reader's tokens.

    Raises:
        ModelError: the tokenizer gives no passage of that many tokens back.
    """
    contexts = dict.fromkeys(question.context for question in load_squad("train"))
    words = "\n".join(contexts).split(" ")
    draw = Random(seed)
    found: list[str] = []
    for _ in range(TRIES * count):
        start = draw.randrange(len(words))
        # A word has at least one token, so as many words are enough.
        text = " ".join((words[start:] + words)[: tokens + 1])
        cut = reader.tokenizer.decode(reader.tokens(text)[:tokens])
        if len(reader.tokens(cut)) == tokens and cut.strip() and cut not in found:
            found.append(cut)
        if len(found) == count:
            return found
    raise ModelError(
        f"{reader.name}: tokenizer: expected {count} passages of {tokens} tokens, got {len(found)}"
    )


class LatentwireWorkload:
    """A batch of passages with a question, read as text and as latents.

    Args:
        reader: frozen.
        compressor: for it.
        texts: passages of one length.
        new_tokens: that are written after each.
        scheme: of the wire.
    """

    def __init__(
        self,
        reader: EndlessReader,
        compressor: Compressor,
        texts: Sequence[str],
        new_tokens: int,
        scheme: str,
    ) -> None:
        self.reader, self.compressor = reader, compressor.eval()
        self.texts, self.new_tokens, self.scheme = list(texts), new_tokens, scheme
        self.contexts = [reader.tokens(text) for text in texts]
        self.endings = [reader.tokens(question_ending(QUESTION)) for _ in texts]
        self.compressor_print = compressor_fingerprint(compressor)
        self.latents = self.encode()

    @property
    def slots(self) -> int:
        """Slots of each passage."""
        return int(self.latents.counts[0])

    @property
    def prompt_tokens(self) -> int:
        """Tokens of each prompt as text."""
        return len(self.reader.opening) + len(self.contexts[0]) + len(self.endings[0])

    @torch.no_grad()
    def encode(self) -> Latents:
        """Latents of the passages, tokenizing included."""
        return self.compressor.encode(self.texts)

    def packed(self, latents: Latents) -> list[bytes]:
        """A file's bytes for every passage."""
        reader, compressor = self.reader.fingerprint, self.compressor_print
        rows = [latents.row(index) for index in range(len(self.texts))]
        return [pack(row, self.scheme, reader=reader, compressor=compressor) for row in rows]

    def sent(self, latents: Latents) -> Latents:
        """What files of latents give back."""
        reader, compressor = self.reader.fingerprint, self.compressor_print
        files = self.packed(latents)
        rows = [unpack(data, reader=reader, compressor=compressor).row() for data in files]
        return stack([row.to(self.reader.device) for row in rows])

    @torch.no_grad()
    def read_latents(self, latents: Latents, new_tokens: int) -> Written:
        """Write after latents: adapter, prefill, decode."""
        with self.compressor.attached(latents):
            prefix = self.compressor.prefix(latents)
            return write(self.reader, prefix, self.endings, _all_of(new_tokens))

    def read_text(self, new_tokens: int) -> Written:
        """Write after the text: prefill, decode."""
        ids = [[*c, *e] for c, e in zip(self.contexts, self.endings, strict=True)]
        counts = [len(context) for context in self.contexts]
        return TokenPrompts(self.reader, ids, counts).write(_all_of(new_tokens))

    def time_text(self) -> Mapping[str, float]:
        """Seconds of one answer from text; all but decoding is prefill."""
        begin = waited(self.reader)
        written = self.read_text(self.new_tokens)
        whole = waited(self.reader) - begin
        return {
            "text_prefill": whole - written.decode_seconds,
            "text_decode": written.decode_seconds,
            "text": whole,
        }

    def time_latents(self) -> Mapping[str, float]:
        """Seconds of one answer from latents; `latents_cached` begins with unpacked ones."""
        begin = waited(self.reader)
        made = self.encode()
        encoded = waited(self.reader)
        read = self.sent(made)
        quantised = waited(self.reader)
        written = self.read_latents(read, self.new_tokens)
        end = waited(self.reader)
        cached = end - quantised
        return {
            "latents_encode": encoded - begin,
            "latents_quantise": quantised - encoded,
            "latents_prefill": cached - written.decode_seconds,
            "latents_decode": written.decode_seconds,
            "latents_cached": cached,
            "latents_online": end - begin,
        }

    def check(self) -> None:
        """Replay the passages as embeddings, and pack what was unpacked once more.

        Raises:
            OtherTokensError: the replay writes other tokens than the text, or a file that was read
                and written again is another.
        """
        name = f"batch {len(self.texts)}, {len(self.contexts[0])} tokens"
        prefix = replayed(self.reader, self.contexts)
        replay = write(self.reader, prefix, self.endings, _all_of(self.new_tokens)).tokens
        text = self.read_text(self.new_tokens).tokens
        if replay != text:
            raise OtherTokensError(
                f"{name}: replayed embeddings", "the text's tokens", text, replay
            )
        if not self.compressor.port.way.reads_embeddings:
            whole = self.guesses_from_all(text)
            plain = self.guesses(replayed(self.reader, self.contexts), text)
            same = [a == b for a, b in zip(whole, plain, strict=True)]
            if sum(same) < ALIKE * len(same):
                what = f"{name}: keys and values of every position"
                raise OtherTokensError(what, f"the text's guesses at {ALIKE:.0%}", plain, whole)
        once = self.packed(self.latents)
        again = self.packed(self.sent(self.latents))
        if once != again:
            prints = [[sha256(data).hexdigest()[:12] for data in each] for each in (once, again)]
            raise OtherTokensError(f"{name}: {self.scheme}", "the same bytes", *prints)

    @torch.no_grad()
    def guesses(self, prefix: Prefix, answers: Sequence[Sequence[int]]) -> list[int]:
        """The reader's first guess at every token of given answers."""
        guesses: list[int] = (
            score(self.reader, prefix, self.endings, answers).logits.argmax(1).tolist()
        )
        return guesses

    @torch.no_grad()
    def guesses_from_all(self, answers: Sequence[Sequence[int]]) -> list[int]:
        """... after every position's keys and values, handed in as latents are."""
        parts = self.compressor.config
        way = replace(parts.way, first=False)
        parts = replace(parts, slots=replace(parts.slots, ratio=1.0), way=way)
        whole = Compressor(parts, self.reader).eval()
        latents = whole.encode(self.texts)
        with whole.attached(latents):
            return self.guesses(whole.prefix(latents), answers)


def _all_of(new_tokens: int) -> DecodingConfig:
    return DecodingConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens)
