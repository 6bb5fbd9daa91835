import json
import math
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from llgbm.deltas.errors import ModelError, RunError, TaskError
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.evaluation.baselines import ROW_NAMES, BaselinesConfig, baselines
from llgbm.latentwire.evaluation.evaluate import Rivals, evaluate, rows_by_name
from llgbm.latentwire.evaluation.pairing import outcomes, row_difference, row_interval
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.rows import ROWS
from llgbm.latentwire.evaluation.rows.base import RowConfig
from llgbm.latentwire.evaluation.rows.text import TextRow
from llgbm.latentwire.evaluation.table import table
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.metrics import f1_score
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.slots import SlotsConfig

SHORT = DecodingConfig(max_new_tokens=4)
BARE = ("text", "no_context", "budget_question_kept", "replay_raw")


@pytest.fixture(scope="module")
def reader(tiny_reader, examples, teach) -> Reader:
    return teach(tiny_reader, examples)


@pytest.fixture(scope="module")
def compressor(reader) -> Compressor:
    return Compressor(CompressorConfig(slots=SlotsConfig(ratio=2.0)), reader)


@pytest.fixture(scope="module")
def found(reader, compressor, examples) -> Evaluation:
    rows = [*rows_by_name(("latent", *BARE, "shuffled")), ROWS["unpacked"](scheme="same")]
    return evaluate(
        reader, compressor, examples, rows, SHORT, batch_size=2,
        schemes={"same": lambda row: row},
    )  # fmt: skip


def test_embedding_replay_answers_as_text_does() -> None:
    real = load_reader(dtype=torch.float32, device="cpu")
    asked = [q.example for q in sorted(load_squad("test"), key=lambda q: len(q.context))[:3]]
    decoding = DecodingConfig(max_new_tokens=6)
    found = evaluate(real, None, asked, rows_by_name(("text", "replay_raw")), decoding)
    text, replay = ([a for a in found.answers if a.row == row] for row in ("text", "replay_raw"))
    assert [answer.answer for answer in text] == [answer.answer for answer in replay]
    assert any(answer.answer for answer in text)
    for one, other in zip(text, replay, strict=True):
        assert one.nll / one.tokens == pytest.approx(other.nll / other.tokens, abs=1e-4)
    assert found.rows["text"].nll < math.log(real.vocabulary)
    assert found.rows["text"].prompt_tokens == found.rows["replay_raw"].prompt_tokens


def test_every_sample_counts_even_where_nothing_is_written(reader, examples) -> None:
    @dataclass(frozen=True)
    class SilentConfig(RowConfig):
        name = "silent"

        def build(self, setting):
            return Silent(setting)

    class Silent(TextRow):
        def prompts(self, indices):
            prompts = super().prompts(indices)
            write = prompts.write

            def silenced(decoding):
                written = write(decoding)
                texts = ["" if 0 in indices else "by the sea" for _ in indices]
                return replace(written, texts=texts)

            prompts.write = silenced
            return prompts

    found = evaluate(reader, None, examples, [SilentConfig()], SHORT, batch_size=1)
    row = found.rows["silent"]
    assert len(found.answers) == len(examples)
    assert row.empty == 1 / 4
    golds = [example.accepted for example in examples]
    assert row.f1 == sum(f1_score("by the sea", gold) for gold in golds[1:]) / 4
    assert found.intervals["silent"]["f1"].n == 4


def test_numbers_do_not_depend_on_the_batch_size(reader, compressor, examples) -> None:
    rows = rows_by_name(("text", "latent", "pruned"))
    one, three = (
        evaluate(reader, compressor, examples, rows, SHORT, batch_size=size) for size in (1, 3)
    )
    for a, b in zip(one.answers, three.answers, strict=True):
        assert (a.row, a.question, a.answer, a.f1) == (b.row, b.question, b.answer, b.f1)
        assert a.nll == pytest.approx(b.nll, abs=1e-3)


def test_drawn_first_tokens_do_not_depend_on_the_batch_size(reader, examples) -> None:
    decoding = replace(SHORT, first_token_temperature=1.0)
    greedy, one, three = (
        [a.answer for a in evaluate(reader, None, examples, rows_by_name(["text"]), d,
                                    batch_size=size).answers]
        for d, size in ((SHORT, 1), (decoding, 1), (decoding, 3))
    )  # fmt: skip
    assert one == three
    assert one != greedy


def test_rows_of_the_bare_reader_run_before_any_that_has_a_compressor(
    reader, compressor, examples, monkeypatch
) -> None:
    from llgbm.latentwire.evaluation import evaluate as module

    order = []
    real = module.measure

    def noted(row, label, *rest):
        order.append(label)
        return real(row, label, *rest)

    monkeypatch.setattr(module, "measure", noted)
    rows = rows_by_name(("latent", "text", "shuffled", "budget_question_kept"))
    found = evaluate(reader, compressor, examples, rows, SHORT)
    assert order == ["text", "budget_question_kept", "latent", "shuffled"]
    assert list(found.rows) == ["latent", "text", "shuffled", "budget_question_kept"]


def test_a_compressor_is_read_in_evaluation_mode_and_left_as_it_was(
    reader, compressor, examples
) -> None:
    compressor.train()
    compressor.port.eval()
    before = [module.training for module in compressor.modules()]
    evaluate(reader, compressor, examples[:2], rows_by_name(["latent"]), SHORT)
    assert [module.training for module in compressor.modules()] == before
    assert len(set(before)) == 2


def test_a_broken_reader_is_refused(reader, examples) -> None:
    model = deepcopy(reader.model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(30.0)
    broken = Reader(model, reader.tokenizer, "broken")
    with pytest.raises(ModelError, match="text NLL: expected below ln 49152 = 10.80"):
        evaluate(broken, None, examples, rows_by_name(["text"]), SHORT)
    for weight in model.parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="NLL"):
        evaluate(broken, None, examples, rows_by_name(["text"]), SHORT)


def test_rows_without_a_compressor_are_measured_once_for_the_same_questions(
    reader, compressor, examples, monkeypatch
) -> None:
    from llgbm.latentwire.evaluation import evaluate as module

    measured, plain = [], module.measure

    def noted(row, label, *rest):
        measured.append(label)
        return plain(row, label, *rest)

    monkeypatch.setattr(module, "measure", noted)
    rows = rows_by_name(("text", "budget_question_kept", "no_context", "latent"))
    rivals: Rivals = {}
    first = evaluate(reader, compressor, examples, rows, SHORT, rivals=rivals)
    again = evaluate(reader, compressor, examples, rows, SHORT, rivals=rivals)
    labels = [row.label for row in rows]
    assert measured == [*labels, "latent"]
    assert again.answers == first.answers
    assert (first.settings["taken_over"], again.settings["taken_over"]) == ([], labels[:3])
    measured.clear()
    # Neither draws anything, and the text has no budget.
    evaluate(reader, compressor, examples, rows[:2], SHORT, seed=1, rivals=rivals)
    evaluate(reader, None, examples, rows[:1], SHORT, slots=SlotsConfig(3.0), rivals=rivals)
    assert measured == []
    for other in ({"decoding": DecodingConfig(3)}, {"decoding": SHORT, "batch_size": 2}):
        evaluate(reader, compressor, examples, rows[:2], rivals=rivals, **other)
    assert measured == [*labels[:2], *labels[:2]]
    measured.clear()
    evaluate(reader, compressor, examples[:3], rows, SHORT, rivals=rivals)
    evaluate(reader, None, examples, rows[:2], SHORT, slots=SlotsConfig(4.0), rivals=rivals)
    assert measured == [*labels, labels[1]]


def test_differences_are_paired_by_example(found) -> None:
    assert set(found.differences) == {"text", "budget_question_kept"}
    tables = [found.answers]
    expected = outcomes(tables, "latent") - outcomes(tables, "text")
    assert found.differences["text"]["latent"].mean == pytest.approx(float(expected.mean()))
    assert found.differences["text"]["replay_raw"].low == 0.0
    assert found.differences["text"]["replay_raw"].high == 0.0


def test_seeds_are_rows_of_one_table(found) -> None:
    other = tuple(
        replace(a, f1=min(1.0, a.f1 + 0.25)) if a.row == "latent" else a for a in found.answers
    )
    tables = [found.answers, other]
    assert outcomes(tables, "latent").shape == (2, 4)
    both = row_difference(tables, "latent", "text")
    single = [row_difference([t], "latent", "text").mean for t in tables]
    assert both.mean == pytest.approx(np.mean(single))
    assert single[1] > single[0]
    assert row_interval(tables, "latent").n == 4
    nll = outcomes(tables, "text", "nll")[0]
    mine = [a.nll / a.tokens for a in found.answers if a.row == "text"]
    assert nll.tolist() == mine
    with pytest.raises(ValueError, match="same examples"):
        outcomes([found.answers, found.answers[::-1]], "latent")
    with pytest.raises(ValueError, match="row"):
        outcomes(tables, "oracle")


def test_results_come_back_as_they_were_written(found, tmp_path) -> None:
    path = tmp_path / "results.json"
    found.write(path)
    assert Evaluation.read(path) == replace(
        found, settings=json.loads(json.dumps(found.settings)),
        environment=json.loads(json.dumps(found.environment)),
    )  # fmt: skip
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert {"row", "title", "question", "answer", "gold", "f1"} <= set(first)
    assert len(lines) == len(found.rows) * 4


def test_damaged_results_are_refused(found, tmp_path) -> None:
    path, beside = tmp_path / "results.json", tmp_path / "results.jsonl"
    found.write(path)
    content, lines = json.loads(path.read_text()), beside.read_text()
    beside.write_text(lines[: lines.rindex("{")])
    with pytest.raises(RunError, match="answers"):
        Evaluation.read(path)
    beside.write_text(lines.replace('"f1": ', '"f2": ', 1))
    with pytest.raises(RunError, match="line 1"):
        Evaluation.read(path)
    beside.write_text(lines)
    path.write_text(json.dumps({**content, "schema": 1}))
    with pytest.raises(RunError, match="schema"):
        Evaluation.read(path)
    content["rows"]["text"]["nll"] = float("nan")
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match="nll"):
        Evaluation.read(path)
    beside.unlink()
    with pytest.raises(RunError, match="not found"):
        Evaluation.read(path)


def test_the_table_names_every_row_and_the_scale(found) -> None:
    lines = table(found).splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(found.rows)]] == list(found.rows)
    assert len({len(line) for line in lines[: 1 + len(found.rows)]}) == 1
    assert lines[-1] == found.scale == "tiny, 4 examples"
    assert any(line.startswith("F1 - budget_question_kept") for line in lines)


def test_what_cannot_be_evaluated_is_refused(reader, examples) -> None:
    text = rows_by_name(["text"])
    with pytest.raises(ConfigError, match="different rows"):
        evaluate(reader, None, examples, [*text, *text], SHORT)
    with pytest.raises(ConfigError, match="expected a compressor"):
        evaluate(reader, None, examples, rows_by_name(["latent"]), SHORT)
    with pytest.raises(ConfigError, match="did you mean 'text'"):
        rows_by_name(["texts"])
    with pytest.raises(PromptError, match="mark"):
        evaluate(reader, None, [replace(examples[0], mark="continue")], text, SHORT)
    with pytest.raises(PromptError, match="ending"):
        evaluate(reader, None, [replace(examples[0], ending="")], text, SHORT)


def test_baselines_write_a_table_and_two_files(tiny_reader, teach, tmp_path, capsys) -> None:
    out = tmp_path / "baselines.json"
    reader = teach(tiny_reader, [question.example for question in load_squad("test")[:2]])
    made = baselines(BaselinesConfig(questions=2, out=out), reader)
    assert Evaluation.read(out).rows == made.rows
    assert list(made.rows) == list(ROW_NAMES)
    assert made.scale in capsys.readouterr().out
    for row in ("budget_head", "budget_tail", "pruned"):
        assert made.rows[row].slots < made.rows["text"].slots / 3


@pytest.mark.parametrize("ratio", [0.5, float("nan"), float("inf")])
def test_a_ratio_that_leaves_no_budget_is_refused(ratio) -> None:
    with pytest.raises(TaskError, match="at least 1"):
        baselines(BaselinesConfig(ratio=ratio))
