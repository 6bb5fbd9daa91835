"""Configs name what is wrong with them, and the nearest thing that exists."""

import pytest

from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.config_tree import as_tree, overridden, parsed, structure, swept
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.training.config import TrainConfig


def test_overrides_reach_parts_stages_and_lists() -> None:
    config = read_config(
        "recipe",
        (
            "compressor.slots.ratio=8",
            "compressor.encoder.name=byte",
            "compressor.encoder.layers=2",
            "stages.0.steps=7",
            "stages.1.losses=[{name='answer'}, {name='first_token', weight=0.5}]",
        ),
    )
    assert config.compressor.slots.ratio == 8
    assert (config.compressor.encoder.name, config.compressor.encoder.layers) == ("byte", 2)
    assert config.stages[0].steps == 7
    assert [term.name for term in config.stages[1].losses] == ["answer", "first_token"]
    assert config.stages[1].losses[1].weight == 0.5


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("compressor.slots.ration=8", "did you mean 'ratio'"),
        ("compresor.slots.ratio=8", "did you mean 'compressor'"),
        ("compressor.encoder.name=bytes", "did you mean 'byte'"),
        ("compressor.slots.ratio=many", "slots.ratio: expected a number, got 'many'"),
        ("compressor.slots.fixed=1.5", "slots.fixed: expected a whole number, got 1.5"),
        ("compressor.slots.fixed=true", "slots.fixed: expected a whole number, got True"),
        ("compressor.slots.ratio=0.5", "ratio of at least 1"),
        ("compressor.slots=4", "expected a table, got 4"),
        ("stages.7.steps=1", "holds no table"),
        ("stages.0.losses=answer", "expected a list of parts, got 'answer'"),
        ("seed", "expected key=value"),
        ("seed.more=1", "holds no table"),
    ],
)
def test_a_mistaken_override_is_told_in_one_line(word, message) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config("recipe", (word,))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_naming_another_part_drops_the_settings_of_the_old_one() -> None:
    tree = as_tree(TrainConfig())
    assert "r" in tree["compressor"]["encoder"]
    changed = overridden(tree, ["compressor.encoder.name=byte"])
    assert changed["compressor"]["encoder"] == {"name": "byte"}
    assert "r" in tree["compressor"]["encoder"]


def test_lists_sweep_over_every_combination() -> None:
    assert swept(["a.b=1,2", "c=x", "d=[1, 2],[3]"]) == [
        ["a.b=1", "c=x", "d=[1, 2]"],
        ["a.b=1", "c=x", "d=[3]"],
        ["a.b=2", "c=x", "d=[1, 2]"],
        ["a.b=2", "c=x", "d=[3]"],
    ]


def test_values_are_read_as_toml_or_as_text() -> None:
    assert parsed("3") == 3
    assert parsed("3.5") == 3.5
    assert parsed("true") is True
    assert parsed("[1, 2]") == [1, 2]
    assert parsed("smollm2-135m") == "smollm2-135m"


def test_a_part_without_a_name_and_an_unknown_file_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"encoder.name: expected one of"):
        structure(TrainConfig, {"compressor": {"encoder": {"layers": 2}}})
    with pytest.raises(ConfigError, match="did you mean 'recipe'"):
        read_config("recipes")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = ")
    with pytest.raises(ConfigError, match=r"broken.toml: expected a TOML or JSON file"):
        read_config(str(broken))
    (tmp_path / "loop.toml").write_text('extends = "loop"')
    with pytest.raises(ConfigError, match="expected one of"):
        read_config(str(tmp_path / "loop.toml"))
