"""Decoders: where they start, what they can hold, and that every parameter is trained."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from llgbm.generators.decoders import (
    DECODERS,
    FullWidthConfig,
    HyperConvConfig,
    PeriodicConfig,
    PeriodicDecoder,
    make_decoder,
)
from llgbm.generators.decoders.full_width import FullWidthDecoder
from llgbm.generators.decoders.periodic import extend
from llgbm.generators.decoders.registry import decoder_name
from llgbm.generators.decoders.span import start_in_span
from llgbm.generators.losses import DeltaWeightLoss, WeightLoss
from llgbm.generators.module_groups import stack_group

CONFIGS = {
    "full_width": FullWidthConfig(hidden=32, blocks=2, codes=6),
    "hyper_conv": HyperConvConfig(token_width=16, channels=8, image_height=3, image_width=6),
    "periodic": PeriodicConfig(hidden=32, blocks=2, period=8),
}
CONDITION_DIM = 16


@pytest.fixture(params=sorted(DECODERS))
def decoder(request, tiny_spec):
    torch.manual_seed(0)
    return make_decoder(CONFIGS[request.param], tiny_spec, CONDITION_DIM)


def updates(weights):
    return {path: weights.lora_B[path] @ weights.lora_A[path] for path in weights.spec.paths}


def test_every_decoder_is_registered_under_the_name_of_its_config():
    assert set(CONFIGS) == set(DECODERS)
    for name, config in CONFIGS.items():
        assert decoder_name(config) == name


def test_an_unregistered_config_is_refused(tiny_spec):
    with pytest.raises(ValueError, match="FullWidthConfig"):
        make_decoder(object(), tiny_spec, CONDITION_DIM)


@pytest.mark.parametrize("b", [1, 3])
def test_an_untrained_decoder_changes_nothing_exactly(decoder, tiny_spec, make_teachers, b):
    teachers = make_teachers(tiny_spec, 4)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    weights = decoder(torch.randn(b, CONDITION_DIM))
    assert weights.n == b
    assert all(bool((update == 0).all()) for update in updates(weights).values())
    # Yet A is there: only so does B get a gradient from the first step on.
    assert all(bool((factor != 0).any()) for factor in weights.lora_A.values())


def test_gradient_reaches_every_parameter_within_three_steps(decoder, tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 3)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    condition = torch.randn(3, CONDITION_DIM)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3)
    for step in range(3):
        optimizer.zero_grad()
        # Through the update alone, as a behavioural loss sees it: at the start A gets none.
        DeltaWeightLoss()(decoder(condition), teachers).backward()
        if step == 0:
            assert decoder.gain_B.weight.grad.abs().sum() > 0
        optimizer.step()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if parameter.dim() > 1:
            assert bool(parameter.grad.flatten(1).abs().sum(1).gt(0).all()), name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_an_item_does_not_depend_on_its_batch(decoder):
    # 1e-6: float32 products of a few dozen terms of size 0.1, summed in another order.
    torch.nn.init.normal_(decoder.gain_B.weight)
    condition = torch.randn(4, CONDITION_DIM)
    batched, alone = decoder(condition), decoder(condition[2:3])
    for path in decoder.spec.paths:
        torch.testing.assert_close(
            batched.lora_B[path][2:3], alone.lora_B[path], atol=1e-6, rtol=1e-5
        )
        torch.testing.assert_close(
            batched.lora_A[path][2:3], alone.lora_A[path], atol=1e-6, rtol=1e-5
        )


def test_the_same_seed_gives_the_same_adapters_bitwise(tiny_spec):
    for config in CONFIGS.values():
        written = []
        for _ in range(2):
            torch.manual_seed(5)
            written.append(make_decoder(config, tiny_spec, CONDITION_DIM)(torch.ones(2, 16)))
        for path in tiny_spec.paths:
            assert torch.equal(written[0].lora_A[path], written[1].lora_A[path])


def test_base_is_the_teachers_mean_and_scales_are_their_deviation(
    decoder, tiny_spec, make_teachers
):
    teachers = make_teachers(tiny_spec, 5)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    for index, group in enumerate(decoder.groups):
        for place, (path, position) in enumerate(zip(group.paths, group.indices, strict=True)):
            mean = teachers.lora_A[path].mean(0)
            torch.testing.assert_close(decoder.base_A(index)[place, 0], mean)
            deviation = (teachers.lora_A[path] - mean).square().mean().sqrt()
            torch.testing.assert_close(decoder.scale_A[position], deviation)
            size = teachers.lora_B[path].square().mean().sqrt()
            torch.testing.assert_close(decoder.scale_B[position], size)


def test_one_teacher_alone_leaves_A_free_to_move(decoder, tiny_spec, make_teachers):
    teacher = make_teachers(tiny_spec, 1)
    decoder.set_base(teacher)
    decoder.fit_scales(teacher)
    assert bool((decoder.scale_A > 0).all())


def test_teachers_of_another_rank_are_refused(decoder, tiny_spec, make_teachers):
    other = type(tiny_spec)(tiny_spec.modules, r=2, lora_alpha=8.0)
    for method in (decoder.set_base, decoder.fit_scales):
        with pytest.raises(ValueError, match=r"r=4.*got r=2"):
            method(make_teachers(other, 1))
        with pytest.raises(ValueError, match="teachers: .*: expected finite values"):
            method(make_teachers(tiny_spec, 1).map(lambda factor: factor * float("nan")))


@pytest.mark.parametrize("size", [3, 8, 20])
def test_extension_repeats_the_pattern_and_cuts_the_last(size):
    pattern = torch.arange(16.0).view(2, 8)
    extended = extend(pattern, 1, size)
    assert torch.equal(extended, pattern[:, torch.arange(size) % 8])


def test_periodic_factors_repeat_along_both_widths(tiny_spec, make_teachers):
    torch.manual_seed(0)
    decoder = PeriodicDecoder(CONFIGS["periodic"], tiny_spec, CONDITION_DIM)
    torch.nn.init.normal_(decoder.gain_B.weight)
    teachers = make_teachers(tiny_spec, 3)
    decoder.set_base(teachers)
    weights = decoder(torch.randn(2, CONDITION_DIM))
    for path in tiny_spec.paths:
        # What is added to the base is periodic; 1e-6 is the rounding of adding and subtracting it.
        deviation = weights.lora_A[path] - teachers.lora_A[path].mean(0)
        torch.testing.assert_close(deviation[..., 8:], deviation[..., :-8], atol=1e-6, rtol=0)
        assert torch.equal(weights.lora_B[path][:, 8:], weights.lora_B[path][:, :-8])
        assert weights.lora_B[path].abs().sum() > 0


def test_full_width_holds_four_random_adapters_within_five_percent(tiny_spec, make_teachers):
    torch.manual_seed(0)
    teachers = make_teachers(tiny_spec, 4)
    decoder = make_decoder(FullWidthConfig(hidden=64, codes=8), tiny_spec, CONDITION_DIM)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    condition = F.layer_norm(torch.randn(4, CONDITION_DIM), (CONDITION_DIM,))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        optimizer.zero_grad()
        WeightLoss()(decoder(condition), teachers).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = DeltaWeightLoss()(decoder(condition), teachers).sqrt()
    assert error < 0.05


def test_heads_that_start_in_the_span_hold_the_teachers(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 5)
    decoder = FullWidthDecoder(FullWidthConfig(hidden=16, codes=6), tiny_spec, 8)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    before = decoder(torch.randn(2, 8))
    start_in_span(decoder, teachers)
    for path in tiny_spec.paths:  # its gain is zero: nothing is written yet
        assert not bool(decoder(torch.randn(2, 8)).lora_B[path].any())
        assert before.lora_B[path].shape == (2, *teachers.lora_B[path].shape[1:])
    for index, group in enumerate(decoder.groups):
        for factor, heads in (
            (stack_group(teachers.lora_B, group), decoder.heads_B[index]),
            (stack_group(teachers.lora_A, group) - decoder.base_A(index), decoder.heads_A[index]),
        ):
            rows = factor.flatten(2)
            fitted = rows @ torch.linalg.pinv(heads) @ heads
            assert float((fitted - rows).detach().norm()) < 1e-3 * float(rows.norm())
