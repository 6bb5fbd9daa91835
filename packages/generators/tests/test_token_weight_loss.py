"""The token loss on weights is that of DnD's tokens where their scales are the teacher's."""

import pytest
import torch

from llgbm.deltas.errors import SettingError
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dnd.layout import TokenLayout
from llgbm.generators.dnd.tokenizer import WeightTokenizer
from llgbm.generators.losses import TokenWeightLoss


def test_it_is_the_naive_mean_over_chunks(tiny_spec, make_teachers) -> None:
    generated, teacher = make_teachers(tiny_spec, 2, 1), make_teachers(tiny_spec, 2, 0)
    total, entries = 0.0, 0
    for path in tiny_spec.paths:
        for ours, theirs in (
            (generated.lora_A[path], teacher.lora_A[path]),
            (generated.lora_B[path].mT, teacher.lora_B[path].mT),
        ):
            for mine, other in zip(ours, theirs, strict=True):
                # 24 does not divide 16, 32 or 64: last chunks are narrow.
                for a, b in zip(mine.split(24, dim=1), other.split(24, dim=1), strict=True):
                    total += float(((a - b) / b.std(correction=0)).square().sum())
                    entries += a.numel()
    found = TokenWeightLoss(24)(generated, teacher)
    assert float(found) == pytest.approx(total / entries, rel=1e-4)


def test_it_is_the_squared_error_of_dnd_tokens_in_the_teachers_scales(
    tiny_spec, make_teachers
) -> None:
    tokenizer = WeightTokenizer(TokenLayout.from_spec(tiny_spec, 16))
    teacher, other = make_teachers(tiny_spec, 1, 0), make_teachers(tiny_spec, 1, 1)
    content = tokenizer.tokenize(teacher)[..., :-2, :-2]
    # Perturb the content of tokens and keep their scales: weights move by std times as much.
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(2))
    moved = tokenizer.tokenize(teacher).clone()
    moved[..., :-2, :-2] += 0.1 * noise
    real = ~content.isnan()
    expected = 0.01 * noise[real].square().mean()
    found = TokenWeightLoss(16)(tokenizer.detokenize(moved), teacher)
    # The tokenizer divides by the unbiased standard deviation, the loss by the plain one.
    assert float(found) == pytest.approx(float(expected), rel=0.03)
    assert float(TokenWeightLoss(16)(other, teacher)) > 10 * float(expected)


def test_chunks_without_spread_ask_nothing_and_zero_is_a_good_start(
    tiny_spec, make_teachers
) -> None:
    teacher = make_teachers(tiny_spec, 2, 0)
    path = tiny_spec.paths[0]
    flat = LoRAWeights(
        tiny_spec, teacher.lora_A, {**teacher.lora_B, path: torch.zeros_like(teacher.lora_B[path])}
    )
    generated = LoRAWeights.zeros(tiny_spec, 2).map(lambda f: f.clone().requires_grad_())
    loss = TokenWeightLoss(16)(generated, flat)
    loss.backward()
    assert not generated.lora_B[path].grad.any()
    assert all(torch.isfinite(f.grad).all() for f in generated.lora_A.values())
    assert generated.lora_B[tiny_spec.paths[1]].grad.abs().sum() > 0
    assert float(TokenWeightLoss(16)(flat, flat)) == 0
    with pytest.raises(SettingError, match="width: expected at least 1"):
        TokenWeightLoss(0)
