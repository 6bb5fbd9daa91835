"""The convolutional decoder in our frame: what it writes, what it can hold, and its commands."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError
from llgbm.deltas.peft_format import load_adapter
from llgbm.generators.cli import CONSOLE
from llgbm.generators.decoders import HyperConvConfig, HyperConvLoRADecoder
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.losses import DeltaWeightLoss, WeightLoss

CONFIG = HyperConvConfig(token_width=16, channels=32, image_height=3, image_width=8)


@pytest.fixture
def decoder(tiny_spec):
    torch.manual_seed(0)
    return HyperConvLoRADecoder(CONFIG, tiny_spec, 16)


def test_factors_are_the_tokens_in_units_of_the_frame(decoder, tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 3)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    torch.nn.init.normal_(decoder.gain_B.weight)
    condition = torch.randn(2, 16)
    weights = decoder(condition)
    relative = decoder.tokenizer.detokenize(decoder.tokens(condition))
    gain = decoder.gain_B(condition)
    for index, path in enumerate(tiny_spec.paths):
        mean = teachers.lora_A[path].mean(0)
        expected = mean + decoder.scale_A[index] * relative.lora_A[path]
        # 1e-6: the same products in float32, the mean formed in another order.
        torch.testing.assert_close(weights.lora_A[path], expected, atol=1e-6, rtol=1e-6)
        expected = decoder.scale_B[index] * gain[:, index, None, None] * relative.lora_B[path]
        torch.testing.assert_close(weights.lora_B[path], expected, atol=1e-6, rtol=1e-6)
        assert weights.lora_A[path].is_contiguous()
        assert weights.lora_B[path].is_contiguous()


def test_it_holds_four_random_adapters_within_five_percent(decoder, tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 4)
    decoder.set_base(teachers)
    decoder.fit_scales(teachers)
    condition = F.layer_norm(torch.randn(4, 16), (16,))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        WeightLoss()(decoder(condition), teachers).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = DeltaWeightLoss()(decoder(condition), teachers).sqrt()
    assert error < 0.05


def test_one_layer_alone_goes_from_the_image_to_the_tokens(tiny_spec):
    config = HyperConvConfig(token_width=8, channels=2, image_height=1, image_width=3, layers=1)
    decoder = HyperConvLoRADecoder(config, tiny_spec, 5)
    assert decoder.tokens(torch.ones(2, 5)).shape == (2, *decoder.tokenizer.layout.shape)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token_width": 7}, "token_width: expected an even number from 2, got 7"),
        ({"kernel_size": 2}, "kernel_size: expected an odd number, got 2"),
        ({"layers": 0}, "layers: expected at least 1, got 0"),
        ({"channels": 0}, "channels: expected at least 1, got 0"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        HyperConvConfig(**settings)


def test_it_trains_generates_and_loads_by_command(tiny_run, train_command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run[0], run)
    arguments = [
        *train_command(run, "conv"),
        "decoder:hyper-conv-config", "--decoder.token-width", "16", "--decoder.channels", "8",
    ]  # fmt: skip
    assert CONSOLE.run(arguments) == 0
    folder, output = run / "generators" / "conv", tmp_path / "adapter"
    generator = LoRAGenerator.load(folder)
    assert generator.config.decoder == HyperConvConfig(token_width=16, channels=8)
    arguments = ["generate", "Say marks", "--generator", str(folder), "--out", str(output)]
    assert CONSOLE.run(arguments) == 0
    written = load_adapter(output)
    assert written.spec == generator.spec
    assert all(bool(factor.any()) for factor in written.lora_B.values())
