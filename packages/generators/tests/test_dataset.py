import json
from collections import Counter

import pytest
import torch

from llgbm.deltas.errors import RunError
from llgbm.generators.dataset import TeacherDataset, TeacherPrompts, read_prompts

SOURCES = [
    TeacherPrompts((f"p{i}a", f"p{i}b", f"p{i}c"), (" x", " y", " z"), (f"d{i}",)) for i in range(3)
]


def dataset(tiny_spec, make_teachers, **options) -> TeacherDataset:
    settings = {
        "kinds": {"prompts": 0.5, "prompts_with_answers": 0.3, "description": 0.2},
        "condition_texts": (1, 2),
        "batch_size": 4,
        "seed": 0,
    }
    weights, deltas = make_teachers(tiny_spec, 3), torch.arange(3.0)[:, None].repeat(1, 5)
    return TeacherDataset(weights, SOURCES, deltas, **{**settings, **options})


def test_an_item_is_a_teacher_with_its_own_condition_and_delta(tiny_spec, make_teachers) -> None:
    data = dataset(tiny_spec, make_teachers)
    path = tiny_spec.paths[0]
    kinds = Counter()
    for step in range(20):
        batch = data.batch(step)
        assert torch.equal(batch.deltas[:, 0], torch.tensor(batch.indices).float())
        for place, index in enumerate(batch.indices):
            assert torch.equal(batch.weights.lora_A[path][place], data.weights.lora_A[path][index])
            condition = batch.conditions[place]
            kinds[condition.kind] += 1
            assert all(text[1] == str(index) for text in condition.texts)
            if condition.kind == "prompts_with_answers":
                assert all(text[-2:] in (" x", " y", " z") for text in condition.texts)
    assert set(kinds) == {"prompts", "prompts_with_answers", "description"}


def test_processes_share_a_step_without_overlap(tiny_spec, make_teachers) -> None:
    data = dataset(tiny_spec, make_teachers)
    whole = data.batch(7)
    parts = [data.batch(7, rank, 2) for rank in range(2)]
    assert whole.indices[0::2] == parts[0].indices
    assert whole.indices[1::2] == parts[1].indices
    assert whole.conditions[1::2] == parts[1].conditions


def test_every_teacher_is_seen_equally_often(tiny_spec, make_teachers) -> None:
    data = dataset(tiny_spec, make_teachers)
    counts = Counter(index for step in range(6) for index in data.batch(step).indices)
    assert set(counts.values()) == {8}


def test_every_text_that_can_be_drawn_is_listed(tiny_spec, make_teachers) -> None:
    data = dataset(tiny_spec, make_teachers)
    listed = set(data.texts())
    assert {t for s in range(20) for c in data.batch(s).conditions for t in c.texts} <= listed
    with pytest.raises(ValueError, match="at least one kind"):
        dataset(tiny_spec, make_teachers, kinds={"prompts": 0.0})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"prompts": ["a"], "answers": []}, "expected 0 as answers"),
        ({"prompts": [], "answers": []}, "at least 1"),
        ({"prompts": "a", "answers": []}, "a list of strings, got str"),
        ({"answers": []}, "got NoneType"),
        ({"prompts": ["a", 1], "answers": ["b", "c"]}, r"prompts\.1: expected a string, got 1"),
        ({"prompts": ["a", " "], "answers": ["b", "c"]}, r"prompts\.1: expected a text, got ' '"),
    ],
)
def test_malformed_prompts_are_named(tmp_path, content, words) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=words):
        read_prompts(tmp_path)
