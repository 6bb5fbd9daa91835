from dataclasses import replace

import pytest

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.oracle import OracleConfig, capacity_oracle
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
