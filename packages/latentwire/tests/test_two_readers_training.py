"""Trainings for two readers: resumed, taken over from one, evaluated, by the command."""

import json
from dataclasses import replace

import pytest
import torch

from llgbm.deltas.errors import RunError
from llgbm.latentwire.cli import CONSOLE
from llgbm.latentwire.commands import two_readers as command_module
from llgbm.latentwire.commands.train import read_config as read_single_config
from llgbm.latentwire.commands.two_readers import (
    TwoReadersCommandConfig,
    read_config,
    two_readers,
)
from llgbm.latentwire.config_tree import as_tree, structure
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.pairing import row_difference
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.files import RunFiles
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.two_readers import (
    READERS,
    SharedCompressor,
    SharedCompressorConfig,
    SlotLayout,
)
from llgbm.latentwire.two_readers import files as files_module
from llgbm.latentwire.two_readers.config import TwoReadersConfig
from llgbm.latentwire.two_readers.evaluation import evaluate_readers
from llgbm.latentwire.two_readers.files import load_shared, read_settings
from llgbm.latentwire.two_readers.results import TwoReadersEvaluation, evaluation_file
from llgbm.latentwire.two_readers.training import SharedTraining
from llgbm.latentwire.two_readers.view import View

SHORT = DecodingConfig(max_new_tokens=3)
CONFIG = SharedCompressorConfig(slots=SlotsConfig(ratio=2), layout=SlotLayout(0.5))
WORDS = (
    "second=other",
    "compressor.encoder.name=embeddings",
    "compressor.slots.ratio=2",
    "compressor.layout.private=0.5",
    "stages=[{name='questions', steps=5, batch_size=2, keep=0.5, "
    "data={name='squad', limit=16, longest=80}, text_steps={warm_up=0.4, tail=0.2}, "
    "losses=[{name='answer'}, {name='reconstruction', weight=0.1}]}]",
    "validate_every=2",
    "validation_examples=4",
    "diagnose_every=2",
    "save_every=2",
)


@pytest.fixture
def config() -> TwoReadersConfig:
    return read_config("two_readers", WORDS)


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    config, tiny_reader, other_reader, tmp_path, monkeypatch
) -> None:
    whole = SharedTraining(config, tiny_reader, other_reader, tmp_path / "whole").fit()

    class Stopped(Exception):
        pass

    step = SharedTraining._train_step
    calls = []

    def stopping(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise Stopped
        return step(self, *arguments)

    monkeypatch.setattr(SharedTraining, "_train_step", stopping)
    with pytest.raises(Stopped):
        SharedTraining(config, tiny_reader, other_reader, tmp_path / "halves").fit()
    monkeypatch.setattr(SharedTraining, "_train_step", step)
    resumed = SharedTraining(config, tiny_reader, other_reader, tmp_path / "halves").fit()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    for file in ("metrics.jsonl", "diagnostics.jsonl"):
        lines = [(tmp_path / run / file).read_text(encoding="utf-8") for run in ("whole", "halves")]
        assert lines[0] == lines[1]
    records = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").open()]
    for record in records:
        if record["split"] == "train":
            parts = sum(value for key, value in record.items() if "/weighted/" in key)
            assert record["loss"] == pytest.approx(parts / 2, rel=1e-5)
        else:
            each = [record[f"{name}/nll"] for name in READERS]
            assert record["nll"] == pytest.approx(sum(each) / 2)
    looks = [json.loads(line) for line in (tmp_path / "whole/diagnostics.jsonl").open()]
    assert [look["reader"] for look in looks] == list(READERS) * 3
    assert {"first", "second"} <= set(looks[0]["part_gradient_norms"])

    loaded = load_shared(tmp_path / "whole", tiny_reader, other_reader)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    text = ["Anna lives in a house by the sea."]
    assert torch.equal(loaded.encode(text).values, whole.encode(text).values)
    assert read_settings(RunFiles(tmp_path / "whole")) == config
    for readers, wrong in (
        ((other_reader, other_reader), "first reader's weights"),
        ((tiny_reader, tiny_reader), "second reader's weights"),
    ):
        with pytest.raises(RunError, match=wrong):
            load_shared(tmp_path / "whole", *readers)
    with pytest.raises(RunError, match="seed: this run was begun with 0, got 1"):
        SharedTraining(replace(config, seed=1), tiny_reader, other_reader, tmp_path / "whole")


def test_a_single_readers_compressor_can_be_taken_over_but_no_other(
    config, tiny_reader, other_reader, tmp_path
) -> None:
    words = (*WORDS[1:3], "validation_examples=2")
    single = CompressorTraining(
        read_single_config("smoke", words), tiny_reader, tmp_path / "single"
    ).fit()
    begun = replace(config, start_from=str(tmp_path / "single"))
    shared = SharedTraining(begun, tiny_reader, other_reader, tmp_path / "two").compressor
    for name, tensor in single.state_dict().items():
        part, rest = name.split(".", 1)
        places = {"pooler": [f"pooler.{each}" for each in shared.pooler], "port": ["port.first"]}
        for place in places.get(part, [part]):
            assert torch.equal(shared.state_dict()[f"{place}.{rest}"], tensor)
    other = replace(
        begun, compressor=replace(begun.compressor, slots=replace(begun.compressor.slots, ratio=4))
    )
    with pytest.raises(ConfigError, match="start_from: expected a compressor of the same parts"):
        SharedTraining(other, tiny_reader, other_reader, tmp_path / "three")


def test_a_config_survives_its_tree_and_names_what_is_wrong(config) -> None:
    assert structure(TwoReadersConfig, as_tree(config)) == config
    assert read_config("two_readers").second == "gemma3-270m"
    assert read_config("recipe").second == ""
    with pytest.raises(ConfigError, match="did you mean 'private'"):
        read_config("two_readers", ("compressor.layout.privat=0.1",))
    with pytest.raises(ConfigError, match="layout"):
        read_single_config("two_readers")


def test_evaluation_has_both_tables_the_swaps_and_the_joint_row(
    tiny_reader, other_reader, teach, examples, tmp_path
) -> None:
    readers = [teach(reader, examples) for reader in (tiny_reader, other_reader)]
    shared = SharedCompressor(CONFIG, *readers).train()
    words = (*WORDS[1:3], "validation_examples=2")
    CompressorTraining(read_single_config("smoke", words), readers[1], tmp_path / "single").fit()
    found = evaluate_readers(
        shared, examples, {"second": str(tmp_path / "single")}, SHORT, batch_size=2
    )
    assert shared.training
    swaps = ["shared_swapped", "private_swapped", "both_swapped"]
    assert list(found.readers["first"].rows) == ["text", "budget_question_kept", "latent", *swaps]
    rows = ["text", "budget_question_kept", "single", "latent", *swaps]
    second = found.readers["second"]
    assert list(second.rows) == rows
    assert set(second.differences) == {"text", "budget_question_kept", "latent"}
    assert second.differences["latent"]["shared_swapped"] == row_difference(
        [second.answers], "shared_swapped", "latent"
    )
    by_row = {
        row: [answer.nll for answer in second.answers if answer.row == row] for row in second.rows
    }
    for row in swaps:
        assert all(a != b for a, b in zip(by_row[row][:2], by_row["latent"][:2], strict=True))
    own = {
        name: [a.answer for a in each.answers if a.row == "latent"]
        for name, each in found.readers.items()
    }
    for said, *proposed in zip(found.joint.answers, *own.values(), strict=True):
        assert said in proposed
    found.write(tmp_path)
    again = TwoReadersEvaluation.read(tmp_path)
    assert again.joint == found.joint
    assert again.readers["second"].differences == second.differences
    assert "both readers together: EM" in found.table()
    evaluation_file(tmp_path, "second").unlink()
    with pytest.raises(RunError, match=r"evaluation_second.json"):
        TwoReadersEvaluation.read(tmp_path)


def test_the_command_trains_and_says_what_parts_there_are(
    tiny_reader, other_reader, tmp_path, monkeypatch, capsys
) -> None:
    readers = {"smollm2-135m": tiny_reader, "other": other_reader}
    monkeypatch.setattr(command_module, "load_reader", readers.__getitem__)
    run = tmp_path / "run"
    assert two_readers(TwoReadersCommandConfig(run, WORDS, dry_run=True)) is None
    said = capsys.readouterr().out
    assert not run.exists()
    for part in ("pooler.shared", "pooler.first", "port.first", "port.second", '"private": 0.5'):
        assert part in said
    assert two_readers(TwoReadersCommandConfig(run, WORDS, evaluate=False)) is None
    assert RunFiles(run).finished.exists()
    assert CONSOLE.run(["report", str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<dt>second reader</dt><dd>other, frozen</dd>" in page
    assert "Not evaluated yet" in page
    assert CONSOLE.run(["evaluate", str(run)]) == 2
    assert (
        "expected a run for one reader: `llgbm-latentwire two-readers`" in capsys.readouterr().err
    )


def test_one_latent_file_is_read_by_both_readers(
    config, tiny_reader, other_reader, tmp_path, monkeypatch, capsys
) -> None:
    run, text, latents = tmp_path / "run", tmp_path / "notes.txt", tmp_path / "notes.lw"
    compressor = SharedTraining(config, tiny_reader, other_reader, run).fit()
    readers = {tiny_reader.name: tiny_reader, other_reader.name: other_reader}
    monkeypatch.setattr(files_module, "load_reader", readers.__getitem__)
    text.write_text("Anna lives in a house by the sea, and Ben has two dogs and a cat.")
    words = ["compress", str(text), "--run", str(run), "--out", str(latents), "--scheme", "fp16"]
    assert CONSOLE.run(words) == 0
    tokens = len(tiny_reader.tokens(text.read_text()))
    assert f"{tokens} tokens in {-(-tokens // 2)} slots" in capsys.readouterr().out
    said = {}
    for reader in ("first", "second"):
        ask = ["answer", str(latents), "Where?", "--run", str(run), "--reader", reader]
        assert CONSOLE.run([*ask, "--max-new-tokens", "6"]) == 0
        said[reader] = capsys.readouterr().out.rstrip("\n")
    for name, answer in said.items():
        view, reader = View(compressor, name), compressor.readers[name]
        with torch.no_grad():
            prefix = view.prefix(view.encode([text.read_text()]))
        endings = [reader.tokens("\nQuestion: Where?\nAnswer:")]
        expected = write(reader, prefix, endings, DecodingConfig(max_new_tokens=6)).texts
        assert [answer] == expected
    assert CONSOLE.run([*ask[:-1], "third"]) == 2
    assert "reader: expected first or second, got 'third'" in capsys.readouterr().err
