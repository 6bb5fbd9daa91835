"""The packaged MiniLM: what it says of a text, and the cache that keeps it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from llgbm.deltas.errors import CacheError, ModelError, SettingError
from llgbm.deltas.packaged import minilm_folder
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder

TEXTS = [
    "Which gas do plants take in?",
    "Photosynthesis uses carbon dioxide.",
    "The goalkeeper saved a penalty in the last minute of the match.",
    "word " * 400,
    "a",
]


@pytest.fixture(scope="module")
def encoder():
    return PretrainedTextEncoder()


class CountingEncoder:
    """Passes on to an encoder and records what it was asked."""

    def __init__(self, encoder):
        self.encoder, self.fingerprint, self.asked = encoder, encoder.fingerprint, []

    def encode(self, texts, batch_size=32):
        self.asked += texts
        return self.encoder.encode(texts, batch_size)


def test_embeddings_are_the_mean_of_real_tokens_of_unit_length(encoder):
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModel.from_pretrained(minilm_folder()).eval()
    embeddings = encoder.encode(TEXTS)
    assert embeddings.shape == (len(TEXTS), 384)
    assert embeddings.dtype == torch.float32
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            mean = model(**tokens).last_hidden_state[0].mean(0)
        # Float32 through six layers; entries are about 0.05.
        torch.testing.assert_close(embedding, F.normalize(mean, dim=0), atol=1e-5, rtol=0)


def test_a_text_does_not_depend_on_its_batch(encoder):
    together = encoder.encode(TEXTS)
    alone = torch.cat([encoder.encode([text]) for text in TEXTS])
    in_pairs = encoder.encode(TEXTS[::-1], batch_size=2).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, in_pairs, atol=1e-5, rtol=0)


def test_related_texts_are_nearer_than_others(encoder):
    similar = encoder.encode(TEXTS[:3])
    cosine = similar @ similar.T
    assert cosine[0, 1] > cosine[0, 2] + 0.2


def test_what_lies_beyond_256_tokens_is_cut(encoder):
    longer = encoder.encode([TEXTS[3], TEXTS[3] + "football"])
    assert torch.equal(longer[0], longer[1])


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_token_states_are_those_of_each_token_alone_and_padded_to_one_length(encoder):
    states = encoder.token_states([TEXTS[0], TEXTS[4]], 12)
    assert states.shape == (2, 12, 384)
    assert states.dtype == torch.float32
    for text, padded in zip((TEXTS[0], TEXTS[4]), states, strict=True):
        tokens = encoder.tokenizer(text, return_tensors="pt")
        alone = encoder.model(**tokens).last_hidden_state[0]
        # Float32 through six layers; entries are about 0.5.
        torch.testing.assert_close(padded[: len(alone)], alone, atol=1e-5, rtol=0)
    mean = states[1, :3].mean(0)  # start, "a", end
    torch.testing.assert_close(
        F.normalize(mean, dim=0), encoder.encode(["a"])[0], atol=1e-5, rtol=0
    )


def test_token_states_of_a_long_text_are_cut(encoder):
    states = encoder.token_states([TEXTS[3], TEXTS[3] + "football"], 8)
    assert torch.equal(states[0], states[1])


def test_token_states_beyond_the_encoders_reach_are_read_in_blocks(encoder):
    long = "word " * 700
    states = encoder.token_states([long, "a"], 1024)
    assert states.shape == (2, 1024, 384)
    assert torch.isfinite(states).all()
    ids = encoder.tokenizer(long, return_tensors="pt")["input_ids"]
    second = torch.nn.functional.pad(ids[:, 512:], (0, 1024 - ids.shape[1]))
    with torch.no_grad():
        alone = encoder.model(
            input_ids=second, attention_mask=(second != 0).long()
        ).last_hidden_state
    torch.testing.assert_close(states[0, 512:], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [0, 513, 1000])
def test_a_length_of_no_whole_blocks_is_refused(encoder, length):
    with pytest.raises(SettingError, match=f"from 1 to 512 or a multiple of 512, got {length}"):
        encoder.token_states(["a"], length)


def test_token_states_of_no_texts_have_no_rows(encoder):
    assert encoder.token_states([], 5).shape == (0, 5, 384)


def test_nothing_in_the_encoder_is_trained(encoder):
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_the_fingerprint_tells_settings_apart(encoder):
    # `encoder` has run and cut a text; a fresh one of the same folder has not.
    encoder.encode(TEXTS[3:4])
    assert encoder.fingerprint == PretrainedTextEncoder(str(minilm_folder())).fingerprint
    assert encoder.fingerprint != PretrainedTextEncoder(max_tokens=64).fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minilm-16", r"got 'minilm-16' \(nearest: minilm-l6\)"),
        ("nobody/nothing", "nobody/nothing: expected a text encoder"),
    ],
)
def test_an_unknown_encoder_is_named(name, message):
    with pytest.raises(ModelError, match=message) as caught:
        PretrainedTextEncoder(name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        PretrainedTextEncoder(str(tmp_path))


def test_the_cache_embeds_only_what_is_missing(encoder, tmp_path):
    counting, cache = CountingEncoder(encoder), EmbeddingCache(tmp_path)
    first = cache.encode([TEXTS[0], TEXTS[1], TEXTS[0]], counting)
    assert counting.asked == [TEXTS[0], TEXTS[1]]
    assert torch.equal(first[0], first[2])
    second = cache.encode(TEXTS[:3], counting)
    assert counting.asked == TEXTS[:3]
    assert torch.equal(second[:2], first[:2])
    torch.testing.assert_close(second, encoder.encode(TEXTS[:3]), atol=1e-5, rtol=0)


def test_another_process_reads_what_this_one_wrote_bitwise(encoder, tmp_path):
    written = EmbeddingCache(tmp_path).encode(TEXTS, encoder)
    counting = CountingEncoder(encoder)
    read = EmbeddingCache(tmp_path).encode(TEXTS[::-1], counting)
    assert counting.asked == []
    assert torch.equal(read.flip(0), written)


def test_two_caches_in_one_folder_keep_each_others_rows(encoder, tmp_path):
    first, second = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    first.encode(TEXTS[:1], encoder)
    second.encode(TEXTS[1:2], encoder)
    first.encode(TEXTS[2:3], encoder)
    counting = CountingEncoder(encoder)
    EmbeddingCache(tmp_path).encode(TEXTS[:3], counting)
    assert counting.asked == []


class ConstantEncoder:
    """Stand-in for tests of the file: a text of n characters is four times n."""

    fingerprint = "cd" * 32

    def encode(self, texts, batch_size=32):
        return torch.tensor([[float(len(text))] * 4 for text in texts]).view(len(texts), 4)


def write_rows(folder, lengths):
    cache = EmbeddingCache(folder)
    for length in lengths:
        cache.encode(["x" * length], ConstantEncoder())


WRITER = """
import sys
import torch
from llgbm.generators.text_encoder import EmbeddingCache

class ConstantEncoder:
    fingerprint = "cd" * 32
    def encode(self, texts, batch_size=32):
        return torch.tensor([[float(len(text))] * 4 for text in texts])

cache = EmbeddingCache(sys.argv[1])
for length in range(int(sys.argv[2]), 40, 2):
    cache.encode(["x" * length], ConstantEncoder())
"""


def test_two_processes_writing_at_once_lose_nothing(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), first])
        for first in ("1", "2")
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    stored = load_file(EmbeddingCache(tmp_path).path(ConstantEncoder()))
    assert sorted(stored["embeddings"][:, 0].tolist()) == [float(n) for n in range(1, 40)]


def test_the_same_text_of_two_encoders_is_kept_apart(tmp_path):
    other = ConstantEncoder()
    other.fingerprint = "ef" * 32
    cache = EmbeddingCache(tmp_path)
    assert cache.path(other) != cache.path(ConstantEncoder())
    assert cache.encode([], other).numel() == 0
    cache.encode(["a"], ConstantEncoder())
    cache.encode(["a"], other)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def rewrite(change):
    def apply(path):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a whole safetensors file"),
        (lambda path: path.write_bytes(b"junk"), "not a whole safetensors file"),
        (rewrite(lambda t: t.pop("keys")), r"tensors: expected \['embeddings', 'keys'\]"),
        (rewrite(lambda t: t.update(keys=t["keys"][:, :5].contiguous())), "keys: expected uint8"),
        (rewrite(lambda t: t.update(keys=t["keys"][:1].clone())), r"float32 \[1, dim\]"),
        (rewrite(lambda t: t["embeddings"].fill_(float("nan"))), "NaN or Inf"),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path, damage, message):
    write_rows(tmp_path, [1, 2])
    path = EmbeddingCache(tmp_path).path(ConstantEncoder())
    damage(path)
    before = path.read_bytes()
    with pytest.raises(CacheError, match=message) as caught:
        EmbeddingCache(tmp_path).encode(["x"], ConstantEncoder())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_one_text_in_place_of_several_is_refused(encoder):
    with pytest.raises(ValueError, match="texts: expected several texts, got 'abc'"):
        encoder.encode("abc")
