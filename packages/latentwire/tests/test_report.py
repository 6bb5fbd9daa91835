"""The report of a run: sections only of files that exist, nothing fetched, answers escaped."""

import json
import re
import shutil
from pathlib import Path

import pytest

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError
from llgbm.latentwire.cli import CONSOLE
from llgbm.latentwire.commands.report import ReportConfig, report
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.config_tree import as_tree
from llgbm.latentwire.evaluation.answers import Answer
from llgbm.latentwire.evaluation.pairing import row_difference, row_interval
from llgbm.latentwire.evaluation.results import Evaluation, RowResult
from llgbm.latentwire.report.answers import side_by_side, verdict_of
from llgbm.latentwire.report.html import flat
from llgbm.latentwire.report.plots import curves_plot, intervals_plot, thinned
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.two_readers.config import TwoReadersConfig
from llgbm.latentwire.two_readers.layout import READERS
from llgbm.latentwire.two_readers.results import JointResult, TwoReadersEvaluation

WORDS = (
    "compressor.encoder.name=embeddings",
    "stages.0.losses=[{name='answer'}, {name='reconstruction', weight=0.1}]",
)
ROWS = ("text", "budget_question_kept", "shuffled", "latent", "unpacked_int8")
COUNT = 20
BAD = "<script>alert(1)</script> & 'so'"


def evaluation_of(said: str = BAD) -> Evaluation:
    """A table of which every answer from latents begins with the same words."""
    answers = tuple(
        Answer(
            row, "title", f"Question {place}?\nAnswer:",
            f"{said} {place}" if row == "latent" else f"word {place}", (f"word {place}", "other"),
            em=0.0, f1=(place % 3) / 2 if row == "latent" else 1.0, nll=3.0, tokens=2,
            first_at_1=0.0, first_at_5=1.0,
        )
        for row in ROWS
        for place in range(COUNT)
    )  # fmt: skip
    numbers = RowResult(0.25, 0.5, 1.5, 0.1, 0.6, 0.0, 1.0, 0.0, 40.0, 9.0, 1.0, 0.5, 2.0, 3.0)
    return Evaluation(
        scale="tiny, 20 questions",
        environment={"commit": "abc", "versions": {"torch": "2"}},
        reader_fingerprint="0" * 64,
        settings={},
        rows=dict.fromkeys(ROWS, numbers),
        intervals={row: {"f1": row_interval([answers], row)} for row in ROWS},
        differences={
            against: {
                row: row_difference([answers], row, against) for row in ROWS if row != against
            }
            for against in ("text", "budget_question_kept")
        },
        answers=answers,
    )


@pytest.fixture(scope="module")
def trained(tiny_reader, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    CompressorTraining(read_config("smoke", WORDS), tiny_reader, folder).fit()
    evaluation_of().write(folder / "evaluation.json")
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "tiny"))


def page_of(run: Path) -> str:
    return report(ReportConfig(run)).read_text(encoding="utf-8")


def sections(page: str) -> set[str]:
    return set(re.findall(r'<h[23] id="(\w+)"', page))


def texts(page: str) -> list[str]:
    """Texts of all pictures."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", page)


WHOLE = {
    "trained", "sizes", "training", "diagnostics", "evaluation", "differences", "collapse",
    "answers",
}  # fmt: skip


def test_a_whole_run_has_every_section_and_names_what_was_trained(run) -> None:
    page = page_of(run)
    assert sections(page) == WHOLE
    assert "tiny, 20 questions" in page
    for words in ("smollm2-135m, frozen", "squad", "reconstruction 0.1", "stages.0.losses.1.name"):
        assert words in page
    drawn = texts(page)
    assert {"sum", "answer", "reconstruction", "nll", "smoothed", "kept", "pooler"} <= set(drawn)
    assert {"F1, 95% interval", "difference of F1, 95% interval", *ROWS} <= set(drawn)
    assert "Nearest tokens, step 1" in page


def test_two_readers_have_a_table_each_and_one_together(tmp_path) -> None:
    write_json(tmp_path / "training.json", as_tree(TwoReadersConfig(second="other")))
    one = Interval(0.5, 0.4, 0.6, COUNT)
    joint = JointResult(
        one, one, dict.fromkeys(READERS, Interval(0.1, 0.0, 0.2, COUNT)), ("so",) * COUNT
    )
    TwoReadersEvaluation(dict.fromkeys(READERS, evaluation_of()), joint).write(tmp_path)
    page = page_of(tmp_path)
    parts = ("evaluation", "differences", "collapse", "answers")
    assert sections(page) == {"trained", "joint"} | {f"{p}_{r}" for p in parts for r in READERS}
    assert "F1 minus the second reader alone: +0.100 <small>[+0.000, +0.200]" in page
    assert "<dt>private slots</dt><dd>0.25 of all, both readers' together</dd>" in page
    assert "<dt>second reader&#39;s way</dt><dd>embeddings</dd>" in page
    for name in ("two_readers.json", "evaluation_first.json", "evaluation_second.jsonl"):
        with pytest.raises(RunError, match="got one that the report is made of"):
            report(ReportConfig(tmp_path, tmp_path / name))


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("metrics.jsonl", {"training"}),
        ("diagnostics.jsonl", {"diagnostics"}),
        ("evaluation.json", {"evaluation", "differences", "collapse", "answers"}),
        ("compressor/config.json", {"sizes"}),
    ],
)
def test_a_section_stands_only_where_its_file_exists(run, file, lost) -> None:
    (run / file).unlink()
    assert sections(page_of(run)) == WHOLE - lost


def test_a_run_that_is_not_finished_says_so(run) -> None:
    assert "not finished" not in page_of(run)
    (run / "finished.json").unlink()
    assert "not finished" in page_of(run)


def test_the_page_fetches_nothing_and_names_no_other(run) -> None:
    page = page_of(run)
    assert page.count("<svg") >= 6
    assert "http" not in page
    assert not re.search(r"<(link|script|img|iframe)\b|@import|url\((?!#)|\bsrc=", page)


def test_answers_are_escaped(run) -> None:
    page = page_of(run)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;so&#39; 0 ") == 1
    assert page.count("word 0 <small>1.00</small>") == 3


def test_parameters_are_those_of_the_file_by_part(run) -> None:
    from safetensors.torch import load_file

    page = page_of(run)
    tensors = load_file(run / "compressor" / "compressor.safetensors")
    adapter = sum(t.numel() for name, t in tensors.items() if ".adapter." in name)
    assert f"<td>adapter</td><td>{adapter:,}</td>" in page
    total = json.loads((run / "finished.json").read_text())["parameters"]
    assert f"<dd>{total:,}</dd>" in page


def test_a_collapse_is_told_with_its_reasons(run) -> None:
    assert "No sign of collapse" in page_of(run)
    found = evaluation_of("so it is")
    same = tuple(
        Answer(**{**vars(each), "answer": "so it is"}) if each.row == "latent" else each
        for each in found.answers
    )
    Evaluation(**{**vars(found), "answers": same}).write(run / "evaluation.json")
    page = page_of(run)
    assert "The answers have collapsed" in page
    assert "distinct answers: expected at least" in page
    assert verdict_of(found, "nobody") is None


def test_questions_are_taken_evenly_over_the_evaluation() -> None:
    found = evaluation_of()
    asked = side_by_side(found, ["text", "latent"], 5)
    assert [each.question.split("?")[0] for each in asked] == [
        f"Question {place}" for place in (0, 4, 8, 12, 16)
    ]
    assert all([a.row for a in each.answers] == ["text", "latent"] for each in asked)
    assert len(side_by_side(found, ["text"], 3 * COUNT)) == COUNT


def ablation(**changes) -> dict:
    numbers = {
        key: {"mean": 0.25, "low": 0.125, "high": 0.5, "n": 8}
        for key in (
            "f1",
            "em",
            "nll",
            "text",
            "budget_question_kept",
            "minus_budget_question_kept",
            "minus_shuffled",
        )
    }
    return {
        "schema": 1, "kind": "latentwire ablation", "name": "ablate", "question": "?",
        "sweep": ["compressor.slots.ratio=4,8"],
        "seeds": [0, 1], "scale": "tiny, 8 questions", "environment": {"commit": "abc"},
        "runs": {"ratio-4": numbers, "ratio-8": numbers}, **changes,
    }  # fmt: skip


def test_an_ablation_is_a_table_and_a_picture(tmp_path) -> None:
    (tmp_path / "ablation.json").write_text(json.dumps(ablation()))
    page = page_of(tmp_path)
    assert sections(page) == {"ablation"}
    assert "<td>ratio-8</td>" in page
    assert "0.250 <small>[0.125, 0.500]</small>" in page
    assert "+0.250 <small>[+0.125, +0.500]</small>" in page
    assert {"ratio-4", "ratio-8", "F1", "F1 of text", "F1 of the token budget"} <= set(texts(page))
    assert "http" not in page


def test_what_is_missing_or_malformed_is_one_line(run, tmp_path, capsys) -> None:
    def said(folder: Path) -> str:
        assert CONSOLE.run(["report", str(folder)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    assert "expected training.json of a run or ablation.json of an ablation" in said(
        tmp_path / "nowhere"
    )
    assert not (tmp_path / "nowhere").exists()
    (run / "metrics.jsonl").write_text('{"step": 1, "stage": "a", "split": "train", "loss": "x"}\n')
    assert "metrics.jsonl: step 1: loss: expected a number, got 'x'" in said(run)
    (run / "metrics.jsonl").unlink()
    (run / "diagnostics.jsonl").write_text('{"step": 1, "part_gradient_norms": {}}\n')
    assert "diagnostics.jsonl: step 1: expected a look, got required field missing" in said(run)
    (run / "diagnostics.jsonl").unlink()
    (run / "finished.json").write_text('{"steps": 1}')
    assert "finished.json: expected a finished training" in said(run)
    other = tmp_path / "ablation"
    other.mkdir()
    (other / "ablation.json").write_text(json.dumps(ablation(kind="other")))
    assert "schema and kind" in said(other)
    (other / "ablation.json").write_text(json.dumps(ablation(runs={"a": {}})))
    assert "runs.a: expected f1" in said(other)


def test_curves_break_between_stages_and_long_ones_are_means() -> None:
    curve = [[(1, 3.0), (2, 2.0)], [(3, 5.0), (4, 4.0)]]
    svg = curves_plot({"a$b$": curve}, {"first": 1, "second": 3}, "nats")
    assert {"first", "second", "a$b$"} <= {text.strip() for text in texts(svg)}
    lines = re.findall(r'<path d="([^"]*)"[^>]*style="fill: none; stroke: #4c8dd6', svg)
    assert len([line for line in lines if line.count("L") == 1]) >= 2
    assert not any(line.count("L") == 3 for line in lines)
    points = [(step, float(step)) for step in range(1, 1001)]
    found = thinned(points, 300)
    assert len(found) == 250
    assert found[0] == (2.5, 2.5)
    assert thinned(points, 1000) == points


def test_intervals_are_drawn_to_their_ends() -> None:
    svg = intervals_plot({"F1": {"latent": Interval(0.3, 0.1, 0.5, 4)}}, "F1", ["latent"])
    assert "#e0803c" in svg
    assert "#4c8dd6" not in svg
    two = intervals_plot({"F1": {"a": Interval(0.3, 0.1, 0.5, 4)}, "text": {}}, "F1", zero=True)
    assert "a" in texts(two)


def test_a_config_is_flat_by_the_paths_of_overrides() -> None:
    tree = {"a": {"b": 1}, "c": [{"d": 2}, {"d": 3}], "e": [4, 5]}
    assert flat(tree) == [("a.b", 1), ("c.0.d", 2), ("c.1.d", 3), ("e", [4, 5])]
