"""Result files that are malformed are named, by every reader."""

import json
from pathlib import Path

import pytest

from llgbm.bench.cli import CONSOLE

ROW = {"median_ms": 2.0, "times_base": 1.0, "adapters_per_s": 4.0}
PLACE = {"config": {"n": 1, "t": 2, "r": 3}, "environment": {"dtype": "float32", "device": "cpu"}}
TEACH = {"suite": "teach", "rows": {"base_alone": ROW}, **PLACE}
GENERATE = {**TEACH, "suite": "generate", "rows": {"one_by_one": ROW}}
CASE = {"shapes": "s", "n": 1, "rows": 2, "r": 3, "rivals": {"base_alone": ROW}}
KERNELS = {"suite": "kernels", "cases": [CASE], **PLACE}
PROMPT = {
    "batch": 1, "tokens": 2, "rows": {"text": ROW}, "times_text": {"latents_cached": 0.5},
    "break_even_reuses": "never",
}  # fmt: skip
LATENTS = {
    **PLACE, "suite": "latentwire", "cases": [PROMPT], "config": {"ratio": 4.0, "new_tokens": 8},
}  # fmt: skip


def row(**changes) -> dict:
    return {**TEACH, "rows": {"base_alone": {**ROW, **changes}}}


@pytest.mark.parametrize("content", [TEACH, GENERATE, KERNELS, LATENTS])
def test_the_least_of_a_result_is_compared_and_drawn(content, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    assert CONSOLE.run(["compare", str(file), str(file)]) == 0
    assert CONSOLE.run(["report", str(tmp_path), "--out", str(tmp_path / "plots")]) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({**TEACH, "suite": ["teach"]}, "suite: expected one of llgbm-bench, got ['teach']"),
        ({**TEACH, "rows": 5}, "rows: expected an object, got int"),
        ({**TEACH, "rows": {}}, "rows: expected at least one row, got none"),
        ({**TEACH, "rows": {"base_alone": 5}}, "rows.base_alone: expected an object, got int"),
        (row(median_ms="q"), "rows.base_alone.median_ms: expected a number above 0, got 'q'"),
        (row(median_ms=0), "rows.base_alone.median_ms: expected a number above 0, got 0"),
        (row(times_base=float("nan")), "times_base: expected a number above 0, got nan"),
        ({**TEACH, "rows": {"x": {"median_ms": 1}}}, "got no ['times_base']"),
        ({**TEACH, "config": {"n": 1}}, "config: expected the keys ['n', 't', 'r'], got no ['t',"),
        ({**TEACH, "environment": 5}, "environment: expected an object, got int"),
        ({**GENERATE, "rows": {"batched": ROW}}, "rows: expected the keys ['one_by_one']"),
        ({**KERNELS, "cases": 5}, "cases: expected a list of at least one, got 5"),
        ({**KERNELS, "cases": [{**CASE, "rivals": {"x": {}}}]}, "cases.0.rivals.base_alone: expe"),
        ({**LATENTS, "cases": []}, "cases: expected a list of at least one, got []"),
        ({**LATENTS, "cases": [{**PROMPT, "rows": {}}]}, "cases.0.rows: expected at least one row"),
        (
            {**LATENTS, "cases": [{**PROMPT, "times_text": {"x": 0}}]},
            "cases.0.times_text.x: expected a number above 0, got 0",
        ),
        (
            {**LATENTS, "cases": [{**PROMPT, "break_even_reuses": "often"}]},
            "cases.0.break_even_reuses: expected a number above 0, or never, got 'often'",
        ),
        ({**KERNELS, "cases": [{"n": 1}]}, "cases.0: expected the keys ['shapes', 'n', 'rows'"),
    ],
)
def test_a_malformed_result_is_named(content, words, tmp_path: Path, capsys) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    for arguments in (
        ["compare", str(file), str(file)],
        ["report", str(tmp_path), "--out", str(tmp_path / "plots")],
    ):
        assert CONSOLE.run(arguments) == 2
        said = capsys.readouterr().err
        assert f"{file}: " in said
        assert words in said
