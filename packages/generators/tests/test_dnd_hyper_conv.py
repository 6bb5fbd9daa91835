"""DnD's convolutional generator: its published sizes, its arithmetic, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError
from llgbm.deltas.spec import LoRASpec
from llgbm.generators.dnd.hyper_conv import (
    QWEN_0_5B,
    QWEN_1_5B,
    HyperConvDecoder,
    HyperConvDecoderConfig,
    small_hyper_conv,
)
from llgbm.generators.dnd.hyper_conv_layer import HyperConvLayer, HyperConvStack
from llgbm.generators.dnd.layout import TokenLayout
from llgbm.generators.dnd.length_reduction import LengthReduction
from llgbm.generators.dnd.loss import TokenLoss
from llgbm.generators.dnd.tokenizer import WeightTokenizer


@pytest.mark.parametrize(
    ("config", "stack", "reduction"),
    [
        (QWEN_0_5B, 1_113_203_220, 0),
        # The published 1.775 B count the convolutions; 4608 -> 1000 -> 1000 comes on top.
        (QWEN_1_5B, 1_775_333_308, 5_610_000),
    ],
    ids=["0.5b", "1.5b"],
)
def test_published_configurations_have_the_published_parameter_counts(config, stack, reduction):
    with torch.device("meta"):
        decoder = HyperConvDecoder(config)
    assert sum(p.numel() for p in decoder.stack.parameters()) == stack
    assert decoder.parameter_count == stack + reduction


@pytest.mark.parametrize("config", [QWEN_0_5B, QWEN_1_5B], ids=["0.5b", "1.5b"])
def test_published_configurations_write_the_tokens_of_their_layout(config):
    with torch.device("meta"):
        tokens = HyperConvDecoder(config)(torch.empty(2, *config.condition_shape))
    assert tuple(tokens.shape[1:]) in {(4296, 10, 130), (4508, 18, 258)}
    assert tuple(tokens.shape) == (2, *config.features[-1])


def mixed(x, kernel, axis):
    """Convolve [N, H, W] with the numbers along `axis` as channels, by summing over shifts.

    The other two axes keep their order, except that tokens come after heights.
    """
    other = {1: (0, 2), 2: (1, 0)}[axis]
    x = x.permute(axis, *other)
    reach = kernel.shape[-1] // 2
    padded = F.pad(x, (reach,) * 4)
    out = torch.zeros(kernel.shape[0], *x.shape[1:])
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += torch.einsum("oc,cxy->oxy", kernel[:, :, i, j], window)
    back = [0, 0, 0]
    for place, dim in enumerate((axis, *other)):
        back[dim] = place
    return out.permute(back)


def test_a_layer_is_the_sum_of_its_two_paths_over_three_then_mixed_over_tokens():
    torch.manual_seed(0)
    layer = HyperConvLayer((3, 4, 5), (6, 2, 7), 3)
    torch.nn.init.normal_(layer.norm.weight)
    x = torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        for item, written in zip(x, layer(x), strict=True):
            flat = item.flatten(1)
            variance = flat.var(1, correction=0, keepdim=True)
            normal = ((flat - flat.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()).view(3, 4, 5)
            normal = normal * layer.norm.weight + layer.norm.bias
            width_kernel = layer.width_first["width"].weight
            one = mixed(mixed(normal, width_kernel, 2), layer.width_first["height"].weight, 1)
            two = mixed(normal, layer.height_first["height"].weight, 1)
            two = mixed(two, layer.height_first["width"].weight, 2)
            middle = (one + torch.tanh(two) + layer.bias) / 3
            expected = F.conv2d(middle, layer.tokens.weight, layer.tokens.bias, padding="same")
            # 1e-5: float32 sums of a few hundred terms of size one.
            torch.testing.assert_close(written, expected, atol=1e-5, rtol=1e-5)


def test_only_layers_that_keep_the_shape_are_residual():
    torch.manual_seed(0)
    features = ((3, 4, 4), (3, 4, 4), (5, 4, 4))
    stack = HyperConvStack(features, 3)
    x = torch.randn(1, 3, 4, 4)
    first, second = stack.layers
    assert torch.equal(stack(x), second(x + first(x)))


def test_length_reduction_views_and_does_not_transpose():
    torch.manual_seed(0)
    reduction = LengthReduction(4, 2)
    states = torch.arange(12.0).view(1, 1, 4, 3)
    rows = torch.arange(12.0).view(3, 4)  # numbers in storage order, four at a time
    expected = reduction.mix(reduction.shorten(rows)).reshape(2, 3)
    assert torch.equal(reduction(states)[0, 0], expected)


def test_the_small_preset_learns_three_adapters(make_teachers, tiny_spec):
    spec = LoRASpec(tiny_spec.modules[:4], tiny_spec.r, tiny_spec.lora_alpha)
    layout = TokenLayout.from_spec(spec, 16)
    target = WeightTokenizer(layout).tokenize(make_teachers(spec, 3))
    torch.manual_seed(0)
    condition = torch.randn(3, 4, 6, 8)
    decoder = HyperConvDecoder(small_hyper_conv((4, 6, 8), layout.shape))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    noise = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        seen, aim = decoder.add_noise(condition, target, noise)
        loss = TokenLoss()(decoder(seen), aim)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    # Three different adapters and not their mean, whose loss is the spread of the three.
    spread = (target - target.mean(0)).square().nanmean()
    assert losses[-1] < 0.5 * spread


def test_noise_has_the_configs_size_keeps_padding_and_follows_its_generator():
    config = HyperConvDecoderConfig(((1, 2, 2), (2, 30, 30)), 3, 0.5, 0.25)
    decoder = HyperConvDecoder(config)
    condition, target = torch.zeros(1, 100, 10, 10), torch.zeros(1, 100, 10, 10)
    target[:, :, -1] = torch.nan
    first, second = (
        decoder.add_noise(condition, target, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
    assert float(first[0].std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(first[1].isnan(), target.isnan())
    assert float(first[1][:, :, :-1].std()) == pytest.approx(0.25, rel=0.05)
    assert condition.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": ((1, 2, 3),)}, "features: expected at least two"),
        ({"features": ((1, 2, 3), (1, 0, 3))}, "features: expected at least two"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"reduced_from": 0}, "reduced_from: expected at least 1, got 0"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(settings, message):
    sizes = {"features": ((1, 2, 3), (2, 4, 4)), "kernel_size": 3, **settings}
    with pytest.raises(SettingError, match=message):
        HyperConvDecoderConfig(**sizes)


def test_a_condition_of_another_shape_is_named():
    decoder = HyperConvDecoder(HyperConvDecoderConfig(((1, 2, 3), (2, 4, 4)), 3))
    with pytest.raises(SettingError, match=r"expected shape \(b, \*\(1, 2, 3\)\), got \(5, 2, 3\)"):
        decoder(torch.zeros(5, 2, 3))
