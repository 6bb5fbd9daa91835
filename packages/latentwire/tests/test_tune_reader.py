"""A reader tuned once on full text: what is learned, merged, written and refused."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llgbm.deltas.errors import RunError
from llgbm.latentwire.lora_parameters import LoRAParameters
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.reader_files import save_reader
from llgbm.latentwire.scoring import score
from llgbm.latentwire.training import tune_reader as module
from llgbm.latentwire.training.tune_reader import TuneReaderConfig, merge, tune, tune_reader

SETTINGS = TuneReaderConfig(Path("unused"), steps=6, batch_size=4, lr=5e-3, r=4, lora_alpha=8.0)


@pytest.fixture
def pupil(tiny_reader) -> Reader:
    return Reader(deepcopy(tiny_reader.model), tiny_reader.tokenizer, "pupil")


def answers_nll(reader, examples):
    return score(
        reader,
        replayed(reader, [reader.tokens(each.context) for each in examples]),
        [reader.tokens(each.ending) for each in examples],
        [reader.answer_tokens(each.answer) for each in examples],
    )


def test_what_is_merged_is_what_was_trained(pupil, examples) -> None:
    lora = LoRAParameters(pupil, 4, 8.0)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
        bare = answers_nll(pupil, examples)
        with lora.applied():
            adapted = answers_nll(pupil, examples)
        before = pupil.fingerprint
        merge(pupil, lora)
        merged = answers_nll(pupil, examples)
    torch.testing.assert_close(merged.logits, adapted.logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(merged.logits, bare.logits, atol=1e-2)
    assert pupil.fingerprint != before


def test_tuning_lowers_the_loss_and_leaves_a_frozen_reader(pupil, examples) -> None:
    with torch.no_grad():
        before = float(answers_nll(pupil, examples).nll.mean())
    losses = tune(pupil, examples, SETTINGS)
    with torch.no_grad():
        after = float(answers_nll(pupil, examples).nll.mean())
    assert losses[0] == pytest.approx(before, rel=1e-4)
    assert len(losses) == 6
    assert after < 0.9 * before
    assert not any(parameter.requires_grad for parameter in pupil.model.parameters())


def test_tuning_is_the_same_twice(tiny_reader, examples) -> None:
    readers = [Reader(deepcopy(tiny_reader.model), tiny_reader.tokenizer, "x") for _ in range(2)]
    first, second = (tune(reader, examples, SETTINGS) for reader in readers)
    assert first == second
    assert readers[0].fingerprint == readers[1].fingerprint


def test_a_loss_that_is_not_finite_stops_before_anything_is_merged(pupil, examples) -> None:
    before = pupil.fingerprint
    with torch.no_grad():
        pupil.model.model.norm.weight[0] = float("nan")
    with pytest.raises(RunError, match="lower lr"):
        tune(pupil, examples, SETTINGS)
    pupil.__dict__.pop("fingerprint")
    with torch.no_grad():
        pupil.model.model.norm.weight[0] = 1.0
    assert pupil.fingerprint == before


def test_the_command_writes_a_reader_that_loads(tiny_reader, tmp_path, monkeypatch) -> None:
    base = tmp_path / "base"
    base.mkdir()
    save_reader(tiny_reader, base)
    short = sorted(module.load_squad("train"), key=lambda each: len(each.context))[:4]
    monkeypatch.setattr(module, "load_squad", lambda split: short)
    out = tmp_path / "tuned"
    config = replace(SETTINGS, out=out, model=str(base), steps=2, batch_size=2)
    assert tune_reader(config) == out
    said = json.loads((out / "tuning.json").read_text())
    assert (said["steps"], said["r"], len(said["losses"])) == (2, 4, 2)
    assert load_reader(str(out)).fingerprint != load_reader(str(base)).fingerprint
    with pytest.raises(RunError, match="overwrite"):
        tune_reader(config)
    assert tune_reader(replace(config, overwrite=True)) == out
