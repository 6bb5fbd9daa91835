"""Scoring equals a plain forward; arms and intervals are what they say."""

import numpy as np
import pytest
import torch

from llgbm.deltas.bootstrap import Interval, interval, paired_difference
from llgbm.deltas.errors import RunError, TaskError
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.packing import pack
from llgbm.deltas.task import Example, Task
from llgbm.generators.evaluation.arms.generated import mismatched
from llgbm.generators.evaluation.arms.nulls import mean_adapter, random_matched
from llgbm.generators.evaluation.arms.retrieval import nearest
from llgbm.generators.evaluation.metrics import split_metrics
from llgbm.generators.evaluation.multiple_choice import encode_examples, score_choices
from llgbm.generators.evaluation.results import Results
from llgbm.generators.evaluation.table import arms_table
from llgbm.generators.evaluation.tasks import EvaluatedTask

EXAMPLES = [
    Example("What is it?", (" one", " another one", " x"), 1),
    Example("Short", (" a", " bb"), 0),
    Example("A much longer question that stands alone", (" yes", " no", " maybe", " z"), 3),
]


@pytest.mark.parametrize("limit", [40, 4096])
def test_scores_equal_a_plain_forward_of_each_choice(
    make_tiny_model, tokenizer, tiny_spec, make_teachers, limit
) -> None:
    model, weights = make_tiny_model(), make_teachers(tiny_spec, 3)
    scores = score_choices(model, tokenizer, EXAMPLES, weights, tokens_per_forward=limit)
    lora = FunctionalLoRA(model, tiny_spec)
    for adapter in range(3):
        for e, example in enumerate(EXAMPLES):
            for c, choice in enumerate(example.choices):
                query = tokenizer(example.query)["input_ids"]
                answer = tokenizer(choice)["input_ids"]
                ids = torch.tensor([query + answer])
                with torch.no_grad(), lora.applied(weights.select([adapter])):
                    logits = model(input_ids=ids).logits[0, len(query) - 1 : -1]
                rows = logits.log_softmax(-1)
                expected = rows.gather(1, torch.tensor(answer)[:, None]).sum()
                torch.testing.assert_close(
                    scores.log_likelihood[adapter, e, c], expected, atol=1e-4, rtol=0
                )
            assert (scores.log_likelihood[adapter, e, len(example.choices) :] == -torch.inf).all()


def test_the_base_alone_equals_an_adapter_that_does_nothing(
    make_tiny_model, tokenizer, tiny_spec
) -> None:
    from llgbm.deltas.weights import LoRAWeights

    model = make_tiny_model()
    base = score_choices(model, tokenizer, EXAMPLES)
    zeros = score_choices(model, tokenizer, EXAMPLES, LoRAWeights.zeros(tiny_spec))
    torch.testing.assert_close(base.log_likelihood, zeros.log_likelihood, atol=1e-5, rtol=0)


def test_a_question_runs_once_for_all_its_choices(tokenizer) -> None:
    batch = pack([encode_examples(tokenizer, EXAMPLES)])
    once = sum(len(e.query) + sum(map(len, e.choices)) for e in EXAMPLES)
    assert batch.tokens == once
    assert once < sum(len(e.query) + len(c) for e in EXAMPLES for c in e.choices)


def test_normalisation_decides_between_long_and_short_choices(make_tiny_model, tokenizer) -> None:
    scores = score_choices(make_tiny_model(), tokenizer, EXAMPLES)
    lengths = torch.tensor([[3.0, 11.0, 1.0, 1.0], [1, 2, 1, 1], [3, 2, 5, 1]])
    assert torch.equal(scores.characters, lengths)
    expected = (scores.log_likelihood / lengths).argmax(-1)
    assert torch.equal(scores.predictions(), expected)
    assert torch.equal(scores.correct(), expected == torch.tensor([1, 0, 3]))


def test_one_choice_cannot_be_scored(tokenizer) -> None:
    with pytest.raises(TaskError, match="at least 2"):
        encode_examples(tokenizer, [Example("q", (" a",), 0)])


def test_long_queries_lose_their_beginning(tokenizer) -> None:
    tree = encode_examples(tokenizer, [Example("abcdef", (" x", " y"), 0)], max_tokens=2)[0]
    assert tree.trunk == (ord("e"), ord("f"))


def test_the_random_arm_has_the_teachers_norms(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 4)
    drawn = random_matched(teachers, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.delta_norms()[0], teachers.delta_norms().mean(0))


def test_the_mean_arm_averages_updates(tiny_spec, make_teachers) -> None:
    one = make_teachers(tiny_spec, 1)
    same = mean_adapter(one.select([0, 0, 0]))
    path = tiny_spec.paths[0]
    torch.testing.assert_close(
        same.lora_B[path] @ same.lora_A[path], one.lora_B[path] @ one.lora_A[path],
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip


def test_a_task_with_too_few_test_examples_is_named() -> None:
    example = Example("q", ("a", "b"), 0)
    task = Task("lonely", "lonely", (), (example,), (example,), (example,))
    with pytest.raises(TaskError, match="lonely: test examples: expected at least 2, .* got 1"):
        EvaluatedTask.of(task, "seen", 8, 10)


def test_wrong_conditions_come_from_other_families() -> None:
    families = {"a1": "a", "a2": "a", "b": "b", "c": "c"}
    for seed in range(5):
        wrong = mismatched(families, list(families), seed)
        assert all(families[task] != families[other] for task, other in wrong.items())
        assert wrong == mismatched(families, list(families), seed)
    assert set(mismatched({"x": "1", "y": "1", "z": "2"}, ["x", "y", "z"], 0)) == {"x", "y", "z"}
    subjects = {"a": "mmlu_a", "b": "mmlu_b", "c": "mmlu_c", "d": "boolq"}
    wrong = mismatched(subjects, list(subjects), 0)
    assert {wrong[task] for task in "abc"} == {"d"}
    assert wrong["d"] in "abc"
    with pytest.raises(ValueError, match="two families"):
        mismatched({"a1": "a", "a2": "a"}, ["a1", "a2"], 0)


def test_nearest_is_by_cosine() -> None:
    assert nearest(torch.tensor([1.0, 1.0]), torch.tensor([[9.0, 0.0], [0.1, 0.1]])) == 1


def test_intervals_hold_the_mean_and_shrink_with_examples() -> None:
    rng = np.random.default_rng(0)
    few, many = ({"t": (rng.random(n) < 0.7).astype(float)} for n in (20, 2000))
    for outcomes in (few, many):
        found = interval(outcomes)
        assert found.low <= found.mean <= found.high
        assert found.mean == pytest.approx(outcomes["t"].mean())
    assert interval(many).high - interval(many).low < 0.3 * (interval(few).high - interval(few).low)
    both = interval({"a": np.ones(10), "b": np.zeros(1000)})
    assert (both.mean, both.n) == (0.5, 1010)
    with pytest.raises(ValueError, match="examples in every task"):
        interval({"a": np.array([])})


def test_pairing_removes_what_both_share() -> None:
    rng = np.random.default_rng(0)
    first = (rng.random(300) < 0.5).astype(float)
    second = first.copy()
    second[:15] = 1 - second[:15]
    paired = paired_difference({"t": first}, {"t": second})
    assert paired.high - paired.low < 0.1
    with pytest.raises(ValueError, match="same examples"):
        paired_difference({"t": first}, {"t": second[:9]})


def test_metrics_follow_their_definitions() -> None:
    arms = ("base", "mean_adapter", "generated", "generated_shuffled", "teacher")
    means = dict(zip(arms, (0.2, 0.4, 0.6, 0.5, 0.8), strict=True))
    outcomes = {arm: {"t": np.full(10, mean)} for arm, mean in means.items()}
    found = split_metrics(outcomes, "seen")
    assert found["seen.teacher_gain"] == pytest.approx(0.6)
    assert found["seen.recovery_over_base"] == pytest.approx(2 / 3)
    assert found["seen.oracle_recovery"] == pytest.approx(0.5)
    assert found["seen.condition_sensitivity"] == pytest.approx(0.1)
    outcomes["teacher"] = outcomes["base"]
    assert split_metrics(outcomes, "seen")["seen.recovery_over_base"] is None


def results() -> Results:
    arms = {"base": Interval(0.3, 0.2, 0.4, 10), "teacher": Interval(0.6, 0.5, 0.7, 10)}
    return Results(
        "tiny", {"commit": "", "versions": {}, "device": "", "seed": 0}, {"seen": arms},
        {"t": arms}, {"t": "seen"}, {"seen.x": None},
        {"validation": {"g": 0.5}}, {"teach": 1.0},
    )  # fmt: skip


def test_results_survive_the_round_trip_and_fill_the_table(tmp_path) -> None:
    results().write(tmp_path / "r.json")
    assert Results.read(tmp_path / "r.json") == results()
    table = arms_table(results())
    assert "0.300 [0.20, 0.40]" in table
    assert "teacher (oracle)" in table


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(schema=1), "schema: expected 2"),
        (lambda c: c.pop("metrics"), "keys: expected"),
        (lambda c: c["accuracy"].update(other={}), "accuracy: expected splits among"),
        (lambda c: c["accuracy"]["seen"].update(magic={}), "expected arms among"),
        (lambda c: c["accuracy"]["seen"]["base"].update(mean=2, high=2), "0 <= low <= high <= 1"),
        (lambda c: c["accuracy"]["seen"]["base"].pop("n"), "mean, low, high, n"),
    ],
)
def test_impossible_results_are_refused(tmp_path, edit, words) -> None:
    import json

    results().write(tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    edit(content)
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=words):
        Results.read(tmp_path / "r.json")
