"""Trainings resume bit for bit, keep the best whole, and say what is wrong with them."""

import json
from dataclasses import replace

import pytest
import torch

from llgbm.deltas.errors import RunError
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.training.files import TENSORS, RunFiles, load_compressor
from llgbm.latentwire.training.held_out import batches_of_one_kind
from llgbm.latentwire.training.loop import CompressorTraining, dropped
from llgbm.latentwire.training.schedule import learning_rate_factor

WORDS = (
    "compressor.encoder.name=embeddings",
    "compressor.slots.largest=32",
    "stages.0.losses=[{name='answer'}, {name='reconstruction', weight=0.1}]",
    "stages.0.keep=0.5",
    "stages.0.steps=6",
    "stages.0.text_steps={warm_up=0.5, tail=0.2}",
    "save_every=2",
)


@pytest.fixture
def config():
    return read_config("smoke", WORDS)


READING = "data={name='reading', longest=60}"
INTERRUPTED = {
    "queries": ("smoke", WORDS),
    # The fourth step is the second of a stage that follows another.
    "keys and values": (
        "cache",
        (
            "compressor.encoder.r=4",
            f"stages=[{{name='select', steps=2, batch_size=2, {READING}, train=['pooler'], "
            "losses=[{name='selection'}]}, "
            f"{{name='reading', steps=4, batch_size=2, {READING}, keep=0.5, "
            "losses=[{name='answer'}, {name='selection', weight=0.1}]}]",
            "validation_examples=4",
            "validate_every=2",
            "save_every=1",
        ),
    ),
    "codes": (
        "smoke",
        (
            *WORDS[1:2],
            *WORDS[3:],
            "compressor.encoder={name='byte', layers=1}",
            "compressor.bottleneck={name='vq', codebook=16}",
            "stages.0.losses=[{name='answer'}, {name='vq'}, {name='scheduled_sampling'}]",
        ),
    ),
}


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    kind, tiny_reader, tmp_path, monkeypatch
) -> None:
    config = read_config(*INTERRUPTED[kind])
    whole = CompressorTraining(config, tiny_reader, tmp_path / "whole").fit()

    class Stopped(Exception):
        pass

    step = CompressorTraining._train_step
    calls = []

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise Stopped
        return step(self, *arguments)

    monkeypatch.setattr(CompressorTraining, "_train_step", stopping)
    with pytest.raises(Stopped):
        CompressorTraining(config, tiny_reader, tmp_path / "halves").fit()
    monkeypatch.setattr(CompressorTraining, "_train_step", step)
    resumed = CompressorTraining(config, tiny_reader, tmp_path / "halves").fit()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "halves")
    ]
    assert lines[0] == lines[1]
    assert not RunFiles(tmp_path / "halves").state.exists()


def test_metrics_hold_every_weighted_term_and_diagnostics_every_part(
    config, tiny_reader, tmp_path
) -> None:
    CompressorTraining(config, tiny_reader, tmp_path).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["split"] == "train"]
    assert len(trained) == 6
    for line in trained:
        parts = line["weighted/answer"] + line["weighted/reconstruction"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert {line["keep"] for line in trained} > {1.0}
    looks = [json.loads(line) for line in (tmp_path / "diagnostics.jsonl").read_text().splitlines()]
    assert len(looks) == 3
    assert set(looks[0]["part_gradient_norms"]) == {"pooler", "adapter", "marks", "reconstruction"}
    assert set(looks[0]["term_gradient_norms"]) == {"answer", "reconstruction"}


def test_a_finished_run_is_not_trained_again_and_another_config_is_refused(
    config, tiny_reader, tmp_path, monkeypatch
) -> None:
    CompressorTraining(config, tiny_reader, tmp_path).fit()
    before = (tmp_path / "metrics.jsonl").read_bytes()
    CompressorTraining(config, tiny_reader, tmp_path).fit()
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    other = replace(config, seed=1)
    with pytest.raises(RunError, match="seed: this run was begun with 0, got 1"):
        CompressorTraining(other, tiny_reader, tmp_path)


def test_a_checkpoint_that_misses_a_part_is_refused_by_name(config, tiny_reader, tmp_path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    CompressorTraining(config, tiny_reader, tmp_path).fit()
    file = RunFiles(tmp_path).compressor / TENSORS
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    tensors.pop("pooler.merge.weight")
    save_file(tensors, file, header)
    with pytest.raises(RunError, match=r"missing \['pooler.merge.weight'\]"):
        load_compressor(tmp_path, tiny_reader)


def test_a_compressor_of_another_reader_is_refused(config, tiny_reader, tmp_path) -> None:
    CompressorTraining(config, tiny_reader, tmp_path).fit()
    inner = RunFiles(tmp_path).compressor / "config.json"
    content = json.loads(inner.read_text())
    content["metadata"]["base_fingerprint"] = "0" * 64
    inner.write_text(json.dumps(content))
    with pytest.raises(RunError, match="reader's weights: expected 000000000000"):
        load_compressor(tmp_path, tiny_reader)


def test_a_stage_trains_the_parts_it_names_alone(config, tiny_reader, tmp_path) -> None:
    stage = replace(config.stages[0], train=("port",))
    training = CompressorTraining(replace(config, stages=(stage,)), tiny_reader, tmp_path)
    before = {name: each.clone() for name, each in training.compressor.state_dict().items()}
    training.fit()
    changed = {
        name.split(".")[0]
        for name, each in training.compressor.state_dict().items()
        if not torch.equal(each, before[name])
    }
    assert changed == {"port"}


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_best(
    config, tiny_reader, tmp_path, monkeypatch
) -> None:
    from llgbm.latentwire.losses.answer import AnswerTerm

    forward = AnswerTerm.forward

    def broken(self, step):
        return forward(self, step) * (float("nan") if step.number >= 3 else 1.0)

    monkeypatch.setattr(AnswerTerm, "forward", broken)
    with pytest.raises(RunError, match="step 4: expected a finite loss"):
        CompressorTraining(config, tiny_reader, tmp_path).fit()
    load_compressor(tmp_path, tiny_reader)


def test_stages_that_share_a_name_and_unknown_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="different names"):
        read_config("recipe", ("stages.1.name=pretrain",))
    with pytest.raises(ConfigError, match="expected parts of encoder"):
        read_config("recipe", ("stages.1.train=['encodr']",))


def test_a_training_starts_from_another_at_another_ratio(config, tiny_reader, tmp_path) -> None:
    first = CompressorTraining(config, tiny_reader, tmp_path / "first").fit()
    slots = replace(config.compressor.slots, ratio=8.0)
    later = replace(
        config,
        compressor=replace(config.compressor, slots=slots),
        start_from=str(tmp_path / "first"),
    )
    second = CompressorTraining(later, tiny_reader, tmp_path / "second").compressor
    for name, each in first.state_dict().items():
        assert torch.equal(each, second.state_dict()[name])
    other = read_config("smoke", (*WORDS, "compressor.adapter.name=film"))
    other = replace(other, start_from=str(tmp_path / "first"))
    with pytest.raises(ConfigError, match="compressor of the same parts"):
        CompressorTraining(other, tiny_reader, tmp_path / "third")


def test_validation_of_pretraining_has_every_kind_in_batches_of_one_kind() -> None:
    source = read_config("recipe").stages[0].data.open(0)
    held_out = source.validation(12)
    assert len(held_out) == 12
    assert {example.mark for example in held_out} == {"", "continue", "reconstruct"}
    batches = batches_of_one_kind(held_out, 3)
    assert sorted(map(id, held_out)) == sorted(id(each) for batch in batches for each in batch)
    assert all(len({bool(each.mark) for each in batch}) == 1 for batch in batches)


def test_dropping_keeps_order_and_at_least_one_slot() -> None:
    values = torch.arange(1, 13.0).reshape(2, 6, 1)
    mask = torch.tensor([[True] * 6, [True] + [False] * 5])
    latents = Latents(values * mask[..., None], mask)
    for seed in range(20):
        found = dropped(latents, 0.4, seed)
        assert (found.counts >= 1).all()
        row = found.row(0)[:, 0].tolist()
        assert row == sorted(row)
        assert found.row(1)[:, 0].tolist() == [7.0]
    assert dropped(latents, 1.0, 0) is latents


def test_the_learning_rate_warms_up_and_falls_to_a_tenth() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == pytest.approx(1.0)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.1, abs=0.001)
    assert factors[10:] == sorted(factors[10:], reverse=True)
