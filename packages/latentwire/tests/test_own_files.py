"""Questions of one's own: both forms, splits that share nothing, a training, bad files."""

import json

import pytest

from llgbm.deltas.errors import RunError, TaskError
from llgbm.latentwire.cli import CONSOLE
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.config_tree import structure
from llgbm.latentwire.data.own import FilesSourceConfig
from llgbm.latentwire.data.question_files import read_questions
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.reader_files import save_reader
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.data_notes import data_remarks, note_data
from llgbm.latentwire.training.files import RunFiles
from llgbm.latentwire.training.loop import CompressorTraining


def written(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def row(number, title="", **changes):
    answer = f"gate {number}"
    return {
        "context": f"Train {number} leaves from {answer} at noon.",
        "question": f"From where does train {number} leave?",
        "answers": [answer, answer, f"the {answer}"],
        "title": title,
        **changes,
    }


@pytest.fixture
def rows():
    return [row(number, f"timetable {number // 2}") for number in range(40)]


def test_lines_become_examples_with_all_their_answers(tmp_path) -> None:
    file = written(tmp_path / "q.jsonl", [row(3, extra=1)])
    (question,) = read_questions(file)
    assert question.example.context == "Train 3 leaves from gate 3 at noon."
    assert question.example.ending == "\nQuestion: From where does train 3 leave?\nAnswer:"
    assert question.example.answer == "gate 3"
    assert question.example.golds == ("gate 3", "the gate 3")


def test_squads_own_form_is_read_without_what_cannot_be_answered(tmp_path) -> None:
    asked = {"question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}
    hidden = {"question": "Why?", "is_impossible": True}
    paragraph = {"context": "Ada wrote it.", "qas": [asked, hidden]}
    file = tmp_path / "squad.JSON"
    file.write_text(json.dumps({"data": [{"title": "A", "paragraphs": [paragraph]}]}))
    (question,) = read_questions(file)
    assert (question.title, question.question, question.answers) == ("A", "Who?", ("Ada",))


def test_some_documents_are_kept_back_and_more_data_moves_none(tmp_path) -> None:
    file = tmp_path / "q.jsonl"
    rows = [row(number, f"timetable {number // 2}") for number in range(80)]
    source = FilesSourceConfig(str(written(file, rows))).open(0)
    trained = {e.title for step in range(40) for e in source.batch(4, step)}
    held_out = {example.title for example in source.questions("validation")}
    assert held_out
    assert not trained & held_out
    assert len(trained | held_out) == 40
    assert len(trained) > len(held_out)
    assert source.validation(1) == source.questions("validation")[:1]
    assert len(source.texts()) == 2 * len(trained)
    with pytest.raises(ConfigError, match="data.test: expected a file"):
        source.questions("test")
    more = [*rows, *(row(number, f"later {number}") for number in range(80, 160))]
    again = FilesSourceConfig(str(written(file, more))).open(0)
    assert held_out <= {example.title for example in again.questions("validation")}


def test_what_editors_and_other_programs_write_is_read(tmp_path) -> None:
    file = tmp_path / "q.jsonl"
    line = json.dumps(row(1, " a title ", answers=["gate\n one "]))
    file.write_text("\ufeff" + line, encoding="utf-8")
    (question,) = read_questions(file)
    assert (question.title, question.answers) == ("a title", ("gate one",))


def test_a_context_in_two_splits_is_refused(tmp_path, rows) -> None:
    train = str(written(tmp_path / "train.jsonl", rows[:30]))
    held_out = str(written(tmp_path / "held.jsonl", rows[30:36]))
    test = str(written(tmp_path / "test.jsonl", [*rows[36:], rows[30]]))
    source = FilesSourceConfig(train, held_out).open(0)
    assert len(source.questions("validation")) == 6
    with pytest.raises(ConfigError, match="data.test: expected contexts that validation does not"):
        FilesSourceConfig(train, held_out, test).open(0)
    with pytest.raises(ConfigError, match="no question of .*train.jsonl has so short a context"):
        FilesSourceConfig(train, longest=3).open(0)
    alone = str(written(tmp_path / "one.jsonl", [row(1, "x"), row(2, "x")]))
    with pytest.raises(ConfigError, match="at least two documents"):
        FilesSourceConfig(alone).open(0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected questions that can be answered, got none"),
        ("{", "line 1: .*JSON"),
        ('{"context": "a", "question": "b"}', "line 1: answers: Field required"),
        ('{"context": "a", "question": "b", "answers": []}', "line 1: answers: .*at least 1 item"),
        ('{"context": " ", "question": "b", "answers": ["c"]}', "line 1: context"),
        (
            '{"context": "a", "question": "b", "answers": "c"}',
            "line 1: answers: .*valid (list|array)",
        ),
        ('{"context": "a", "question": "b", "answers": [3]}', "line 1: answers.0: .*valid string"),
        ("[" * 100_000, "line 1: .*(JSON|recursion)"),
    ],
)
def test_malformed_lines_are_told_with_their_number(tmp_path, text, told) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(text)
    with pytest.raises(TaskError, match=told):
        read_questions(file)


def test_files_that_cannot_be_read_are_told(tmp_path) -> None:
    with pytest.raises(TaskError, match="No such file"):
        read_questions(tmp_path / "q.jsonl")
    with pytest.raises(TaskError, match="null byte"):
        read_questions(tmp_path / "q\0.jsonl")
    with pytest.raises(TaskError, match="directory"):
        read_questions(tmp_path)
    (tmp_path / "q.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="expected UTF-8, got byte 0"):
        read_questions(tmp_path / "q.jsonl")
    (tmp_path / "q.json").write_text('{"data": [{"paragraphs": 3}]}')
    with pytest.raises(TaskError, match="data.0.paragraphs"):
        read_questions(tmp_path / "q.json")
    with pytest.raises(ConfigError, match=r"data.train: expected a file of questions"):
        structure(TrainConfig, {"stages": [{"data": "files"}]})


def test_a_compressor_trains_and_is_evaluated_on_files(
    tmp_path, rows, tiny_reader, teach, capsys
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    asked = [question.example for question in read_questions(written(tmp_path / "all", rows))]
    save_reader(teach(tiny_reader, asked[:8]), folder)
    train = written(tmp_path / "train.jsonl", rows[:30])
    test = written(tmp_path / "test.jsonl", rows[30:])
    run = str(tmp_path / "run")
    data = f"stages.0.data={{name='files', train='{train}', test='{test}'}}"
    words = [f"reader={folder}", data]
    words += ["compressor.encoder.name=embeddings", "compressor.slots.largest=16"]
    words += ["--config", "smoke"]
    assert CONSOLE.run(["train", run, *words]) == 0
    # A file so small that its questions are needed twice is still evaluated, and says so.
    assert "have chosen the best step, too" in capsys.readouterr().out
    assert (
        "chosen the best step"
        in json.loads((tmp_path / "run" / "evaluation.json").read_text())["scale"]
    )
    assert CONSOLE.run(["evaluate", run, "--split", "test", "--rows", "text", "latent"]) == 0
    assert "10 test questions" in capsys.readouterr().out
    # Documents that are added later leave the run usable, and its evaluation says so.
    written(tmp_path / "train.jsonl", [*rows[:30], row(50, "timetable 50")])
    capsys.readouterr()
    assert CONSOLE.run(["evaluate", run, "--split", "test", "--rows", "text", "latent"]) == 0
    assert (
        "questions of stage questions have changed since it was trained" in capsys.readouterr().out
    )


@pytest.mark.parametrize("part", ["context", "question"])
def test_what_is_too_long_in_a_later_stage_is_told_before_the_first_step(
    part, tmp_path, rows, tiny_reader
) -> None:
    long = {**rows[7], part: rows[7][part] + " And so on." * tiny_reader.limit}
    first, last = written(tmp_path / "a.jsonl", rows), written(tmp_path / "b.jsonl", [*rows, long])
    stages = [
        f"{{name='{name}', steps=1, data={{name='files', train='{path}'}}}}"
        for name, path in (("first", first), ("last", last))
    ]
    config = read_config(
        "smoke", [f"stages=[{', '.join(stages)}]", "compressor.encoder.name=embeddings"]
    )
    with pytest.raises(PromptError, match="stage 'last': 'Train 7 leaves.*expected"):
        CompressorTraining(config, tiny_reader, tmp_path / "run").fit()
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_every_stages_questions_are_looked_at_again(tmp_path, rows, tiny_reader) -> None:
    first, last = (written(tmp_path / name, rows[:30]) for name in ("a.jsonl", "b.jsonl"))
    stages = [
        f"{{name='{name}', steps=1, data={{name='files', train='{path}'}}}}"
        for name, path in (("first", first), ("last", last))
    ]
    config = read_config("smoke", [f"stages=[{', '.join(stages)}]"])
    files = RunFiles(tmp_path / "run")
    files.folder.mkdir()
    for stage in config.stages:
        note_data(files, stage.name, stage.data.open(0))
    assert data_remarks(files, config) == []
    written(first, [*rows[:30], row(50, "timetable 50")])
    changed = "questions of stage first have changed since it was trained"
    assert data_remarks(files, config) == [changed]
    last.unlink()
    again, gone = data_remarks(files, config)
    assert again == changed
    assert gone.startswith("questions of stage last can no longer be read (")
    assert "No such file" in gone


def test_a_run_does_not_go_on_with_other_questions(tmp_path, rows, tiny_reader) -> None:
    train = written(tmp_path / "train.jsonl", rows[:30])
    config = read_config(
        "smoke",
        [
            f"stages.0.data={{name='files', train='{train}'}}",
            "compressor.encoder.name=embeddings",
        ],
    )
    training = CompressorTraining(config, tiny_reader, tmp_path / "run")
    source = config.stages[0].data.open(0)
    note_data(training.files, config.stages[0].name, source)  # as the first step does
    written(train, [*rows[:30], row(50, "timetable 50")])
    with pytest.raises(RunError, match="the questions have changed since this run was begun"):
        training.fit()
    training.files.data.write_text('{"questions": 3}')
    with pytest.raises(RunError, match="expected a fingerprint for every stage"):
        training.fit()
    training.files.data.unlink()
    written(train, rows[:30])
    training.fit()
    assert training.files.finished.exists()
