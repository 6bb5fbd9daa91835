"""ConditionNetwork: a set has no order, and padding is not part of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from llgbm.generators.condition_network import ConditionNetwork, ConditionNetworkConfig
from llgbm.generators.conditions import ConditionBatch

CONFIG = ConditionNetworkConfig(embedding_dim=24, hidden=32, heads=4, condition_dim=16)
# Outputs are layer-normalised, of size 1; float32 sums of up to nine texts in another order.
TOLERANCE = 1e-5


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ConditionNetwork(CONFIG)


def texts(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 24, generator=generator), dim=-1)


def test_the_order_of_texts_does_not_matter(network):
    rows = texts(5, 0)
    straight = network(ConditionBatch.of([rows]))
    shuffled = network(ConditionBatch.of([rows[[3, 0, 4, 2, 1]]]))
    torch.testing.assert_close(straight, shuffled, atol=TOLERANCE, rtol=0)


def test_padding_and_batch_do_not_matter_whatever_the_padding_holds(network):
    rows = texts(3, 0)
    alone = network(ConditionBatch.of([rows]))
    batch = ConditionBatch.of([texts(9, 1), rows])
    torch.testing.assert_close(network(batch)[1:], alone, atol=TOLERANCE, rtol=0)
    batch.embeddings[1, 3:] = 7.0
    torch.testing.assert_close(network(batch)[1:], alone, atol=TOLERANCE, rtol=0)


def test_different_sets_give_different_conditions(network):
    output = network(ConditionBatch.of([texts(4, 0), texts(4, 1)]))
    assert output.shape == (2, 16)
    assert (output[0] - output[1]).norm() > 0.5


def test_gradient_reaches_every_parameter(network):
    batch = ConditionBatch.of([texts(4, 0), texts(2, 1)])
    (network(batch) * torch.randn(2, 16)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_heads_must_divide_hidden():
    with pytest.raises(ValueError, match=r"divisor of hidden \(10\), got 4"):
        ConditionNetworkConfig(hidden=10)
