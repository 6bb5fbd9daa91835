"""Token layouts: the published sizes, the order, and models whose widths do not divide."""

from __future__ import annotations

import pytest

from llgbm.deltas.errors import SettingError
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.generators.dnd.layout import TokenLayout


def qwen_like(layers, hidden, kv, intermediate, r, names=None):
    # In the order of a model, where gate comes before up.
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, kv),
        "self_attn.v_proj": (hidden, kv),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (hidden, intermediate),
        "mlp.up_proj": (hidden, intermediate),
        "mlp.down_proj": (intermediate, hidden),
    }
    modules = tuple(
        ModuleShape(f"model.layers.{layer}.{name}", *shape)
        for layer in range(layers)
        for name, shape in shapes.items()
        if names is None or name.rsplit(".", 1)[-1] in names
    )
    return LoRASpec(modules, r, 2.0 * r)


@pytest.mark.parametrize(
    ("sizes", "width", "shape"),
    [
        ((24, 896, 128, 4864, 8), 128, (4296, 10, 130)),
        ((28, 1536, 256, 8960, 16), 256, (4508, 18, 258)),
        ((28, 3584, 512, 18944, 16), 512, (4928, 18, 514)),
    ],
    ids=["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-7b"],
)
def test_published_sizes_follow_from_the_models_shapes(sizes, width, shape):
    assert TokenLayout.from_spec(qwen_like(*sizes), width).shape == shape


def test_tokens_come_by_layer_then_q_k_v_o_up_gate_down_with_A_before_B():
    layout = TokenLayout.from_spec(qwen_like(2, 8, 4, 12, 2), 8)
    names = [(f.path.split(".")[2], f.path.rsplit(".", 1)[-1], f.factor) for f in layout.factors]
    order = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"]
    assert names == [
        (layer, name, factor) for layer in "01" for name in order for factor in ("lora_A", "lora_B")
    ]


def test_the_tenth_layer_comes_after_the_second():
    layout = TokenLayout.from_spec(qwen_like(11, 8, 4, 12, 2, ("q_proj",)), 8)
    layers = [int(factor.path.split(".")[2]) for factor in layout.factors[::2]]
    assert layers == list(range(11))


def test_every_column_is_held_once_and_the_last_chunk_is_narrower():
    # SmolLM2-135M: 576 is four and a half times 128.
    spec = qwen_like(30, 576, 192, 1536, 8)
    layout = TokenLayout.from_spec(spec, 128)
    sources = list(layout.sources())
    assert len(sources) == layout.tokens == 30 * (2 * (5 + 5) + 2 * (5 + 2) + 3 * (5 + 12))
    columns = {}
    for source in sources:
        start, key = source.start, (source.path, source.factor)
        assert start == columns.get(key, 0)
        assert 0 < source.stop - start <= 128
        columns[key] = source.stop
    for module in spec.modules:
        assert columns[module.path, "lora_A"] == module.in_features
        assert columns[module.path, "lora_B"] == module.out_features
    assert sources[4].stop - sources[4].start == 64


def test_a_spec_of_few_modules_has_only_their_tokens():
    layout = TokenLayout.from_spec(qwen_like(3, 64, 16, 100, 4, ("v_proj", "q_proj")), 32)
    assert layout.shape == (3 * (2 + 2 + 2 + 1), 6, 34)


@pytest.mark.parametrize("width", [0, -2, 7])
def test_a_width_without_pairs_is_refused(width):
    with pytest.raises(SettingError, match=f"width: expected an even number from 2, got {width}"):
        TokenLayout.from_spec(qwen_like(1, 8, 4, 12, 2), width)
