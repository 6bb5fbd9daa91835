"""results.json: what is written is read back; what is wrong is one line with file and key."""

import json

import pytest

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError
from llgbm.generators.evaluation.alignment import Point
from llgbm.generators.evaluation.result_blocks import (
    Alignment,
    ArmBehaviour,
    ArmParse,
    ArmRatios,
)
from llgbm.generators.evaluation.results import Results


def results() -> Results:
    arms = {"base": Interval(0.3, 0.2, 0.4, 10), "teacher": Interval(0.6, 0.5, 0.7, 10)}
    return Results(
        "test data, no model",
        {"commit": "c", "versions": {}, "device": "CPU", "seed": 0},
        {"seen": arms, "held_out_family": arms},
        {"t": arms, "u": arms},
        {"t": "seen", "u": "held_out_family"},
        {"seen.teacher_gain": 0.3, "seen.oracle_recovery": None},
        {"validation": {"g": 0.5}},
        {"teach": 1.0},
        {"seen": {"base": Interval(-0.1, -0.2, 0.1, 10)}},
        {
            "seen": {
                "base": ArmBehaviour(None, Interval(0.2, 0.1, 0.3, 2)),
                "teacher": ArmBehaviour(Interval(0.9, 0.8, 1.0, 2), Interval(0.0, 0.0, 0.1, 2)),
            }
        },
        {"seen": {"generated": ArmRatios(Interval(1.4, 1.1, 1.7, 2), None)}},
        {"seen": {"base": ArmParse(Interval(0.0, 0.0, 0.0, 8), None)}},
        {"deltas": {"task": 0.7, "family": None}},
        Alignment(
            Interval(-0.3, -0.9, 0.6, 3),
            None,
            tuple(Point("t", "teacher", 0.5, gain) for gain in (-0.2, 0.0, 0.3)),
        ),
    )


def test_what_is_written_is_read_back(tmp_path) -> None:
    results().write(tmp_path / "r.json")
    assert Results.read(tmp_path / "r.json") == results()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.update(schema="2"), "schema: expected 2, got '2'"),
        (lambda c: c.update(scale=3), "scale: expected a text, got 3"),
        (lambda c: c.update(environment=None), "environment: expected an object, got NoneType"),
        (lambda c: c["environment"].pop("seed"), "environment: .* no \\['seed'\\]"),
        (lambda c: c.update(accuracy=None), "accuracy: expected an object, got NoneType"),
        (lambda c: c.update(accuracy=["seen"]), "accuracy: expected an object, got list"),
        (lambda c: c.update(accuracy={}), "accuracy: expected splits among"),
        (lambda c: c["accuracy"].update(seen=[]), "accuracy.seen: expected an object, got list"),
        (lambda c: c["accuracy"]["seen"].update(base=1), "accuracy.seen.base: expected an object"),
        (lambda c: base(c).update(mean="x"), "accuracy.seen.base.mean: expected a finite number"),
        (lambda c: base(c).update(mean=7.0), "accuracy.seen.base: expected 0 <= low"),
        (lambda c: base(c).update(low=float("nan")), "base.low: expected a finite number, got nan"),
        (lambda c: base(c).update(n=1.5), "accuracy.seen.base.n: expected a count above 0"),
        (lambda c: base(c).update(extra=1), "accuracy.seen.base: expected mean, low, high, n"),
        (lambda c: c["split_of_task"].pop("t"), "split_of_task: expected a split"),
        (lambda c: c["split_of_task"].update(t="blue"), "split_of_task: expected a split"),
        (lambda c: c.update(metrics=[1]), "metrics: expected an object, got list"),
        (lambda c: c["metrics"].update(m="big"), "metrics.m: expected a finite number, got 'big'"),
        (lambda c: c["delta_cosine"].pop("validation"), "delta_cosine: expected validation"),
        (lambda c: c["delta_cosine"].update(validation={"g": None}), "delta_cosine.validation.g"),
        (lambda c: c["differences"].update(blue={}), "differences: expected splits among"),
        (lambda c: c["differences"]["seen"]["base"].update(low=-2), "differences.seen.base: expec"),
        (lambda c: c["behaviour"]["seen"].update(magic={}), "behaviour.seen: expected arms among"),
        (lambda c: behaviour(c).pop("kl"), "behaviour.seen.teacher: expected cosine, kl"),
        (lambda c: behaviour(c)["kl"].update(low=-0.5), "teacher.kl: expected 0 <= low"),
        (lambda c: behaviour(c)["cosine"].update(high=1.5), "teacher.cosine: expected -1 <= low"),
        (lambda c: c["nearest_teacher"]["seen"].update(base=3), "seen.base: expected an object"),
        (
            lambda c: c["parse_rate"]["seen"]["base"].update(correct=2),
            "base.correct: expected 0 to",
        ),
        (lambda c: c["clusters"]["deltas"].pop("task"), "clusters.deltas: expected task and fam"),
        (
            lambda c: c["clusters"]["deltas"].update(task="x"),
            "clusters.deltas.task: expected a fin",
        ),
        (lambda c: c["alignment"].update(points={}), "alignment.points: expected a list"),
        (lambda c: c["alignment"]["points"][1].pop("gain"), "alignment.points.1: expected task"),
        (lambda c: c["alignment"]["points"][0].update(arm="x"), "points.0: expected arms among"),
        (lambda c: c["alignment"]["pearson"].update(mean=3, high=3), "pearson: expected -1 <= low"),
        (lambda c: c["seconds"].update(teach=True), "seconds.teach: expected a finite number"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_key(tmp_path, edit, words) -> None:
    path = tmp_path / "r.json"
    results().write(path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=f"r.json: {words}|r.json: .*{words}") as caught:
        Results.read(path)
    assert "\n" not in str(caught.value)


def base(content):
    """The numbers of one arm."""
    return content["accuracy"]["seen"]["base"]


def behaviour(content):
    """Behaviour of one arm."""
    return content["behaviour"]["seen"]["teacher"]
