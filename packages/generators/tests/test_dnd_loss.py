"""The masked weighted loss on tokens, and where its weights come from."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from llgbm.deltas.errors import SettingError
from llgbm.generators.dnd.loss import TokenLoss, token_weights


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    generated, target = torch.randn(2, 3, 4, 5, 6, generator=generator)
    target[:, 1, 2:] = math.nan
    target[0, 3, :, 4] = math.nan
    return generated.requires_grad_(), target


def test_the_loss_is_the_weighted_mean_over_real_entries(pair):
    generated, target = pair
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
    total = count = 0.0
    for index in product(*map(range, target.shape)):
        if not math.isnan(target[index]):
            total += float(weights[index[1]] * (generated[index] - target[index]).detach() ** 2)
            count += 1
    # 1e-5: a few hundred float32 terms.
    assert TokenLoss(weights)(generated, target).item() == pytest.approx(total / count, rel=1e-5)


def test_padding_gets_no_gradient_and_spreads_no_nan(pair):
    generated, target = pair
    with torch.no_grad():
        generated[0, 1, 3] = math.nan  # what a generator writes at padding is nobody's business
    TokenLoss()(generated, target).backward()
    assert torch.isfinite(generated.grad).all()
    assert torch.equal(generated.grad != 0, ~target.isnan())


def test_a_perfect_copy_costs_nothing(pair):
    _, target = pair
    assert TokenLoss()(target.nan_to_num(nan=9.0), target) == 0


def test_shapes_that_do_not_fit_are_refused(pair):
    generated, target = pair
    with pytest.raises(ValueError, match=r"expected the target's shape .*got \(3, 4, 5, 5\)"):
        TokenLoss()(generated[..., :-1], target)
    with pytest.raises(ValueError, match=r"weights: expected \(4,\), got \(3,\)"):
        TokenLoss(torch.ones(3))(generated, target)


def test_weights_are_the_spread_of_teachers_over_its_mean():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1.0, 3.0, 0.0])
    tokens = torch.randn(200, 3, 4, 4, generator=generator) * sizes[:, None, None] + 5
    tokens[:, 1, 2:] = math.nan
    weights = token_weights([tokens])
    # Token 1 has half the entries: the mean spread is (16 * 1 + 8 * 3 + 16 * 0) / 40 = 1.
    # 0.05: the standard deviation of 200 draws is good to 5%, of 8 such means to 2%.
    torch.testing.assert_close(weights, sizes, atol=0.1, rtol=0)
    mean = (weights * torch.tensor([16.0, 8.0, 16.0])).sum() / 40
    assert float(mean) == pytest.approx(1.0, rel=1e-5)


def test_weights_of_several_tasks_are_averaged():
    generator = torch.Generator().manual_seed(0)
    groups = [torch.randn(4, 3, 2, 2, generator=generator) for _ in range(2)]
    each = [token_weights([group]) for group in groups]
    torch.testing.assert_close(token_weights(groups), (each[0] + each[1]) / 2)


@pytest.mark.parametrize("groups", [[], [torch.ones(3, 2, 2, 2)]])
def test_weights_need_teachers_that_differ(groups):
    with pytest.raises(SettingError, match="token weights: .*expected"):
        token_weights(groups)
