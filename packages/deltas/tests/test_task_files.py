import json
from pathlib import Path

import pytest

from llgbm.deltas.errors import TaskError
from llgbm.deltas.task_files import load_task_file

ROWS = [{"query": f"q{i}", "choices": ["a", "b"], "gold": i % 2} for i in range(20)]


def saved(folder: Path, content: object, name: str = "t.json") -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def lines(rows: list, end: str = "\n") -> bytes:
    return end.join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path, end) -> None:
    plain = load_task_file(saved(tmp_path, lines(ROWS), "t.jsonl"), 0)
    other = load_task_file(saved(tmp_path, b"\xef\xbb\xbf" + lines(ROWS, end), "t.jsonl"), 0)
    assert other == plain
    assert load_task_file(saved(tmp_path, b"\xef\xbb\xbf" + json.dumps(ROWS).encode()), 0) == plain


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_unicode_line_separators_inside_a_text_end_no_line(tmp_path, separator) -> None:
    rows = [{**row, "query": f"{row['query']}{separator}more"} for row in ROWS]
    task = load_task_file(saved(tmp_path, lines(rows), "t.jsonl"), 0)
    assert all(separator in example.query for example in task.train)


def test_a_bad_example_of_a_jsonl_file_is_named_by_its_line(tmp_path) -> None:
    path = saved(tmp_path, lines(ROWS[:2]) + b'\n\n\n{"x": 1}\n', "t.jsonl")
    with pytest.raises(TaskError, match=r"t\.jsonl: line 5: expected one of"):
        load_task_file(path, 0)


def test_choices_continue_the_query(tmp_path) -> None:
    rows = [{"query": f"q{i}\n", "choices": ["a", " b"], "answer": "a"} for i in range(10)]
    assert load_task_file(saved(tmp_path, rows), 0).train[0].choices == ("a", " b")


def test_a_name_is_fit_for_a_folder(tmp_path) -> None:
    named = {"examples": ROWS, "name": "../../my task", "description": "Do it"}
    task = load_task_file(saved(tmp_path, named), 0)
    assert (task.name, task.family, task.description) == ("_my_task", "_my_task", "Do it")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"examples": ROWS, "descriptions": 5}, "descriptions: expected a list of texts, got int"),
        ({"examples": ROWS, "descriptions": ["a", ""]}, "descriptions: expected a text"),
        ({"examples": ROWS, "name": 5}, "name: expected a text that is not empty, got 5"),
        ({"examples": ROWS, "family": [1]}, "family: expected a text"),
        ({"examples": {"a": 1}}, "example: expected a list, got dict"),
        ({"examples": ROWS, "train": ROWS}, "keys: expected `examples` or splits"),
        ({"train": ROWS[:15], "test": ROWS[15:]}, r"got no \['validation'\]"),
        (
            {"train": ROWS[:15], "validation": [], "test": ROWS[15:]},
            "validation: expected at least",
        ),
        ([{**row, "query": "same"} for row in ROWS], "at least one query of its own"),
        (3, "expected a list or an object, got int"),
        (b" \n", "an empty file"),
        (b"[\xff]", "expected UTF-8"),
        (b"[" * 200_000, "deep nesting"),
        (b'{\n"examples": oops}', "line 2, column 13: expected JSON"),
    ],
)
def test_a_malformed_file_is_told_in_one_line(tmp_path, content, words) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        load_task_file(saved(tmp_path, content), 0)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
