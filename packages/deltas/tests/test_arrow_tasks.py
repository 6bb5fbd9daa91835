import subprocess
import sys

import pytest

from llgbm.deltas import arrow_tasks, packaged_tasks
from llgbm.deltas.arrow_tasks import ARROW_TASKS
from llgbm.deltas.errors import MissingPackageError, TaskError
from llgbm.deltas.packaged import evaluation_data
from llgbm.deltas.packaged_tasks import PACKAGED_TASKS, descriptions_of
from llgbm.deltas.task import SPLITS
from llgbm.deltas.tasks import known_tasks, load_task

SUBJECTS = [name for name in ARROW_TASKS if name.startswith("mmlu_")]


def first(name: str, split: str):
    """The first row of a split, read as an example."""
    source = ARROW_TASKS[name]
    (path,) = (path for path in source.paths(name) if path.parent.name == split)
    return source.read(source.docs(path)[0])


def test_every_subject_of_the_data_is_a_task() -> None:
    folders = {path.name for path in evaluation_data("hails/mmlu_no_train").iterdir()}
    assert {f"mmlu_{folder}" for folder in folders} == set(SUBJECTS)
    assert len(SUBJECTS) == 57
    assert set(SUBJECTS) < set(known_tasks())


def test_the_families_suffice_for_forty_and_ten_held_out() -> None:
    families = {source.family for source in PACKAGED_TASKS.values()}
    assert len(families) == 78
    assert len({ARROW_TASKS[name].family for name in SUBJECTS}) == 56


def test_no_question_stands_in_two_families() -> None:
    families: dict[tuple, set[str]] = {}
    for name in known_tasks():
        task = load_task(name)
        for example in (e for split in SPLITS for e in getattr(task, split)):
            bare = example.query.removeprefix("Question: ").removesuffix("\nAnswer:")
            choices = frozenset(choice.strip().lower() for choice in example.choices)
            key = (" ".join(bare.lower().split()), choices)
            families.setdefault(key, set()).add(task.family)
    assert [key for key, found in families.items() if len(found) > 1] == []


def test_splits_of_the_data_are_pooled_and_repeated_rows_kept_once() -> None:
    # 5 + 8 + 100 rows, all different.
    task = load_task("mmlu_college_chemistry")
    assert sum(len(getattr(task, split)) for split in SPLITS) == 113
    task = load_task("mmlu_college_physics")
    rows = [
        r for p in ARROW_TASKS[task.name].paths(task.name) for r in ARROW_TASKS[task.name].docs(p)
    ]
    examples = [e for split in SPLITS for e in getattr(task, split)]
    assert len(examples) == len(set(examples)) < len(rows) == 118


@pytest.mark.parametrize(
    ("name", "size"), [("sst2", 872), ("mrpc", 408), ("rte", 277), ("cb", 56), ("copa", 100)]
)
def test_sizes(name, size) -> None:
    task = load_task(name)
    assert sum(len(getattr(task, split)) for split in SPLITS) == size


@pytest.mark.parametrize(
    ("name", "split", "query", "choices", "gold"),
    [
        (
            "sst2",
            "validation",
            "it's a charming and often affecting journey. \n"
            "Question: Is this sentence positive or negative?\nAnswer:",
            (" negative", " positive"),
            1,
        ),
        (
            "mrpc",
            "validation",
            "Sentence 1: He said the foodservice pie business doesn't fit the company's long-term "
            "growth strategy.\n"
            'Sentence 2: "The foodservice pie business does not fit our long-term '
            "growth strategy.\n"
            "Question: Do both sentences mean the same thing?\nAnswer:",
            (" yes", " no"),
            0,
        ),
        (
            "rte",
            "validation",
            "Dana Reeve, the widow of the actor Christopher Reeve, has died of lung cancer at age "
            "44, according to the Christopher Reeve Foundation.\n"
            "Question: Christopher Reeve had an accident. True or False?\nAnswer:",
            (" True", " False"),
            1,
        ),
        (
            "cb",
            "validation",
            "Valence the void-brain, Valence the virtuous valet. Why couldn't the figger choose "
            "his own portion of titanic anatomy to shaft? Did he think he was helping?\n"
            "Question: Valence was helping. True, False or Neither?\nAnswer:",
            (" True", " False", " Neither"),
            1,
        ),
        (
            "copa",
            "validation",
            "The man turned on the faucet therefore",
            (" the toilet filled with water.", " water flowed from the spout."),
            1,
        ),
        (
            "mmlu_college_chemistry",
            "test",
            "Question: The rate, r, of a zero-order chemical reaction A → B can be expressed as "
            "which of the following?\nAnswer:",
            (" r = k ln[A]", " r = k [A]^2", " r = k [A]", " r = k"),
            3,
        ),
    ],
)
def test_rows_are_asked_as_their_evaluation_asks_them(name, split, query, choices, gold) -> None:
    example = first(name, split)
    assert (example.query, example.choices, example.gold) == (query, choices, gold)


def test_descriptions_differ_between_all_tasks() -> None:
    texts = [text for name in known_tasks() for text in descriptions_of(name)]
    assert len({text.lower() for text in texts}) == len(texts)
    first_text = descriptions_of("mmlu_college_chemistry")[0]
    assert first_text == "Answer multiple-choice questions about college chemistry"


CHILD = """
import sys
sys.modules["pyarrow"] = None
from llgbm.deltas.errors import MissingPackageError
from llgbm.deltas.tasks import known_tasks, load_task
assert {"sst2", "mmlu_anatomy", "sciq"} <= set(known_tasks())
load_task("sciq")
try:
    load_task("mmlu_anatomy")
except MissingPackageError as error:
    print(error)
"""


def test_names_are_known_without_pyarrow_and_loading_names_it() -> None:
    run = subprocess.run(
        [sys.executable, "-c", CHILD],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install pyarrow" in run.stdout
    assert run.stdout.count("\n") == 1


def load_from(folder, monkeypatch, name: str):
    """Load a task whose data lies in `folder`, around the cache, which holds the real one."""
    monkeypatch.setattr(arrow_tasks, "evaluation_data", lambda dataset: folder)
    return packaged_tasks.load_packaged_task.__wrapped__(name, 0)


def test_a_missing_pyarrow_is_told_as_such(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match="pip install pyarrow"):
        packaged_tasks.load_packaged_task.__wrapped__("copa", 0)


def write_table(folder, columns: dict):
    import pyarrow

    table = pyarrow.table(columns)
    path = folder / "validation" / "data.arrow"
    path.parent.mkdir()
    with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)
    return path


GOOD = {"question": ["q"] * 3, "choices": [["a", "b"]] * 3, "answer": [1] * 3}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (GOOD, "examples: expected at least 10, got 1"),
        ({key: GOOD[key] for key in ("question", "choices")}, "KeyError('answer')"),
        ({**GOOD, "answer": [2] * 3}, "gold 2 of 2 choices"),
        ({**GOOD, "question": [None] * 3}, "AttributeError"),
        ({**GOOD, "choices": [["a", None]] * 3}, "TypeError"),
    ],
)
def test_rows_that_are_no_examples_name_the_file(tmp_path, monkeypatch, columns, words) -> None:
    path = write_table(tmp_path, columns)
    with pytest.raises(TaskError) as caught:
        load_from(tmp_path, monkeypatch, "mmlu_anatomy")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_damaged_files_are_named(tmp_path, monkeypatch) -> None:
    path = write_table(tmp_path, GOOD)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TaskError, match="expected a whole Arrow IPC stream") as caught:
        load_from(tmp_path, monkeypatch, "mmlu_anatomy")
    assert str(path) in str(caught.value)


def test_data_without_files_are_told(tmp_path, monkeypatch) -> None:
    with pytest.raises(TaskError, match="SPLIT/\\*.arrow, got none"):
        load_from(tmp_path, monkeypatch, "mmlu_anatomy")
