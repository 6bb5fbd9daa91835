"""Probe sets by size and name, and their fit in the model's context."""

import hashlib

import pytest
import torch

from llgbm.deltas.delta import compute_base_activation, compute_delta
from llgbm.deltas.errors import SettingError, TaskError
from llgbm.deltas.probe_names import PROBE_NAMES, named_probes
from llgbm.deltas.probes import DOMAINS, ProbeSet, TokenizedProbes, create_generic_probes


def test_the_first_five_are_those_of_delta_activations_to_the_letter() -> None:
    texts = create_generic_probes().texts
    assert len(texts) == 5
    assert texts[4] == (
        "You are given an instruction and input. Write a response that completes the task as "
        "requested.\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"
    )
    # Of the texts joined by line feeds: a cache of an older version stays valid.
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert digest == "86e818b1b201b823656c181b4fa3f4504bd0349edd5153decf972b611bbef809"


def test_a_larger_generic_set_begins_with_the_smaller_and_repeats_nothing() -> None:
    five, ten, twenty = (create_generic_probes(count) for count in (5, 10, 20))
    assert (len(five), len(ten), len(twenty)) == (5, 10, 20)
    assert ten.texts[:5] == five.texts
    assert twenty.texts[:10] == ten.texts
    assert len(set(twenty.texts)) == 20
    suffix = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"
    assert all(text.endswith(suffix) for text in twenty.texts)
    assert len({probes.fingerprint for probes in (five, ten, twenty)}) == 3


def test_other_counts_are_refused() -> None:
    with pytest.raises(SettingError, match=r"count: expected one of \(5, 10, 20\)"):
        create_generic_probes(7)


@pytest.mark.parametrize("name", PROBE_NAMES)
def test_every_name_gives_the_set_of_that_name(name) -> None:
    probes = named_probes(name)
    assert probes.name == name
    counts = {"generic": 5, "generic-10": 10, "generic-20": 20, **dict.fromkeys(DOMAINS, 5)}
    assert len(probes) == counts[name]


def test_sets_joined_by_plus_keep_their_order(tmp_path) -> None:
    file = tmp_path / "a+b.txt"
    file.write_text("my probe\\nof two lines\n\nanother\n")
    joined = named_probes("math+generic")
    assert joined.texts == (*named_probes("math").texts, *named_probes("generic").texts)
    assert joined.name == "math+generic"
    assert named_probes(str(file)).texts == ("my probe\nof two lines", "another")
    plain = file.rename(tmp_path / "own.txt")
    assert named_probes(f"code+{plain}").texts[5:] == ("my probe\nof two lines", "another")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("generic+generic-10", "probes: generic.generic-10: expected each probe once, got 'Below"),
        ("generic+", "joined by +, got ''"),
        ("generic-7", "expected generic, generic-10, generic-20, one of"),
        ("math+nowhere.txt", "nowhere.txt: not found"),
    ],
)
def test_bad_names_are_told(name, words) -> None:
    with pytest.raises(TaskError, match=words.replace("+,", r"\+,")):
        named_probes(name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"one\n\xff\n", "text: expected UTF-8, got byte 4 that is not"),
        (b"one\n \\n\\n\n", r"probes: expected one text a line, got ' \\\\n\\\\n', line breaks"),
        (b"\n", "probes: expected one text a line, got an empty file"),
    ],
)
def test_files_that_hold_no_texts_are_named(content, words, tmp_path) -> None:
    file = tmp_path / "own.txt"
    file.write_bytes(content)
    with pytest.raises(TaskError, match=f"own.txt: {words}"):
        named_probes(str(file))


def test_a_probe_longer_than_the_context_is_refused(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    model.config.max_position_embeddings = 8
    probes = ProbeSet(("short", "much too long"))
    words = "probes custom: 1: expected at most 8 tokens, the context of the model, got 13"
    with pytest.raises(SettingError, match=words):
        compute_base_activation(model, probes)
    with pytest.raises(SettingError, match=words):
        compute_delta(model, make_weights(model), probes)
    with pytest.raises(SettingError, match="probes custom: 0: expected at most 8 tokens"):
        ids = TokenizedProbes(torch.zeros(1, 9, dtype=torch.long), torch.tensor([9]), "x")
        compute_base_activation(model, ids)


def test_a_probe_cut_to_max_tokens_fits(make_tiny_model) -> None:
    model = make_tiny_model()
    model.config.max_position_embeddings = 8
    with pytest.warns(UserWarning, match="probes long: 1 of 1 cut to 8 tokens, .* at 0 from 13"):
        cut = compute_base_activation(model, ProbeSet(("much too long",), 8, "long"))
    torch.testing.assert_close(cut, compute_base_activation(model, ProbeSet(("much too",))))
