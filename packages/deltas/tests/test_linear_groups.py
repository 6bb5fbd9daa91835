"""q, k and v (gate and up) are computed together, and only for the tensor they were computed of."""

import pytest
import torch

from llgbm.deltas import functional
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.linear_groups import GroupForward, linear_groups
from llgbm.deltas.spec import LoRASpec
from llgbm.lora_kernels import lora_linear_grouped


def test_the_groups_of_a_decoder_layer(make_tiny_model) -> None:
    spec = LoRASpec.from_model(make_tiny_model(), 2, 4.0)
    names = [tuple(path.rsplit(".", 1)[1] for path in paths) for paths in linear_groups(spec)]
    layer = [("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",)]
    assert names == layer * (len(spec.modules) // 7)
    assert sorted(p for paths in linear_groups(spec) for p in paths) == sorted(spec.paths)


def test_a_part_of_a_group_is_a_group(make_tiny_model) -> None:
    spec = LoRASpec.from_model(make_tiny_model(), 2, 4.0, ("q_proj", "v_proj", "up_proj"))
    names = {tuple(path.rsplit(".", 1)[1] for path in paths) for paths in linear_groups(spec)}
    assert names == {("q_proj", "v_proj"), ("up_proj",)}


def test_the_model_makes_one_call_a_group(make_tiny_model, make_weights, monkeypatch) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    sizes = []

    def counted(x, weights, *args, **kwargs):
        sizes.append(len(weights))
        return lora_linear_grouped(x, weights, *args, **kwargs)

    monkeypatch.setattr(functional, "lora_linear_grouped", counted)
    with FunctionalLoRA(model, weights.spec).applied(weights):
        model(input_ids=torch.ones(3, 4, dtype=torch.long))
    assert sizes == [3, 1, 2, 1] * (len(weights.spec.modules) // 7)


def test_another_tensor_is_never_answered_with_what_waits() -> None:
    group = GroupForward(lambda x: [x + 1, x + 2])
    first, second = group.forward_of(0), group.forward_of(1)
    one, two = torch.zeros(2), torch.full((2,), 5.0)
    assert torch.equal(first(one), one + 1)
    assert torch.equal(second(two), two + 2)
    # Asked twice with one tensor, the second answer is computed anew and as right.
    assert torch.equal(first(two), two + 1)
    assert torch.equal(first(two), two + 1)
    assert torch.equal(second(two), two + 2)


@pytest.mark.parametrize("names", [("q_proj", "k_proj", "v_proj")])
def test_direct_calls_in_another_order_are_right(make_tiny_model, make_weights, names) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    x = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(0))
    attention = model.model.layers[0].self_attn
    with FunctionalLoRA(model, weights.spec).applied(weights):
        together = {name: getattr(attention, name)(x) for name in names}
        for name in reversed(names):
            assert torch.equal(getattr(attention, name)(x.clone()), together[name])
