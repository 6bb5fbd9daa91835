from dataclasses import replace

import pytest
import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.evaluation.oracle import OracleConfig, capacity_oracle
from llgbm.latentwire.evaluation.rows.base import Setting
from llgbm.latentwire.evaluation.rows.oracle import OracleRowConfig
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.slots import SlotsConfig

FEW = OracleConfig(slots=SlotsConfig(ratio=1.0), tokens=3, steps=120)


def test_optimising_makes_recall_rise_to_one_where_tokens_are_few(tiny_reader, examples) -> None:
    found = capacity_oracle(tiny_reader, examples[:2], FEW)
    assert found.tokens == [3, 3]
    assert found.slots == [3, 3]
    assert found.recall == [1.0, 1.0]
    assert max(found.start_recall) < 0.5
    assert max(found.without) < 0.5
    assert found.steps < FEW.steps
    assert len(found.curve) == found.steps + 1


def test_vectors_of_one_sample_do_not_see_those_of_another(tiny_reader, examples) -> None:
    config = replace(FEW, steps=3)
    both = capacity_oracle(tiny_reader, examples[:2], config)
    alone = capacity_oracle(tiny_reader, examples[1:2], config)
    assert alone.nll[0] == pytest.approx(both.nll[1], rel=1e-3)
    assert alone.recall[0] == both.recall[1]


def test_vectors_can_carry_an_answer_instead_of_the_text(tiny_reader, examples) -> None:
    config = replace(FEW, tokens=0, reconstruction=0.0, answer=1.0, enough=2.0, steps=80)
    one = DecodingConfig(max_new_tokens=1)
    found = capacity_oracle(tiny_reader, examples[1:3], config, one)
    assert found.f1 == [1.0, 1.0]
    assert found.steps == 80
    short = capacity_oracle(tiny_reader, examples[1:3], replace(config, steps=1), one)
    assert max(short.f1) < 1.0


def test_a_config_without_a_goal_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight"):
        OracleConfig(reconstruction=0.0)
    with pytest.raises(ConfigError, match="learning_rate"):
        OracleConfig(learning_rate=0.0)
    with pytest.raises(ConfigError, match="learning_rate"):
        OracleConfig(learning_rate=float("nan"))


def test_the_row_fits_every_text_alone_and_is_shown_no_question(tiny_reader, examples) -> None:
    setting = Setting(tiny_reader, tuple(examples), slots=SlotsConfig(ratio=1.0))
    row = OracleRowConfig(steps=3).build(setting)
    together, alone = row.prompts([0, 1, 2]), row.prompts([1])
    slots = setting.budgets
    assert together.slots == slots[:3]
    assert together.encode_seconds > 0
    count = slots[1]
    torch.testing.assert_close(
        together.prefix.embeds[1, :count], alone.prefix.embeds[0, :count], atol=1e-3, rtol=1e-3
    )
    asked = replace(examples[1], ending="\nQuestion: Another?\nAnswer:", answer="nothing")
    other = Setting(tiny_reader, (asked,), slots=SlotsConfig(ratio=1.0))
    again = OracleRowConfig(steps=3).build(other).prompts([0])
    torch.testing.assert_close(again.prefix.embeds, alone.prefix.embeds)


def test_fitted_vectors_are_a_row_of_the_table(tiny_reader, teach, examples) -> None:
    reader = teach(tiny_reader, examples)
    rows = [*rows_by_name(["text"]), OracleRowConfig(steps=60)]
    # As many vectors as tokens can be the tokens themselves.
    found = evaluate(
        reader, None, examples, rows, DecodingConfig(max_new_tokens=2), slots=SlotsConfig(ratio=1.0)
    )
    oracle, text = found.rows["oracle"], found.rows["text"]
    assert oracle.slots == text.slots
    assert oracle.nll < 1.5 * text.nll
