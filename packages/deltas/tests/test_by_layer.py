"""Layers weigh alike, whatever their size."""

import pytest
import torch

from llgbm.deltas.by_layer import by_layer, delta_cosine, delta_norm_ratio, directions, layer_rms
from llgbm.deltas.retrieval import retrieve


@pytest.fixture
def deltas() -> torch.Tensor:
    return torch.randn(4, 5, 3, 8, generator=torch.Generator().manual_seed(0))


def test_the_cosine_is_the_mean_over_layers_and_sees_no_layers_size(deltas) -> None:
    other = deltas.roll(1, 0)
    expected = torch.stack(
        [
            torch.nn.functional.cosine_similarity(
                deltas[:, :, layer].flatten(1), other[:, :, layer].flatten(1)
            )
            for layer in range(3)
        ]
    ).mean(0)
    torch.testing.assert_close(delta_cosine(deltas, other), expected)
    sizes = torch.tensor([1e-3, 1.0, 1e3])[:, None]
    torch.testing.assert_close(delta_cosine(deltas * sizes, other), expected)
    torch.testing.assert_close(
        delta_norm_ratio(2 * deltas * sizes, deltas * sizes), torch.full((4,), 2.0)
    )


def test_other_shapes_are_one_layer(deltas) -> None:
    flat = deltas.flatten(1)
    assert by_layer(flat).shape == (4, 1, 120)
    assert by_layer(deltas).shape == (4, 3, 40)
    torch.testing.assert_close(directions(flat), torch.nn.functional.normalize(flat))
    assert layer_rms(flat).shape == ()


def test_a_layer_in_which_nothing_moves_does_not_count(deltas) -> None:
    deltas[:, :, 0] = 0
    torch.testing.assert_close(delta_cosine(deltas, deltas), torch.ones(4))
    assert not directions(torch.zeros(1, 5, 3, 8)).any()


def test_sizes_are_of_each_layer_and_next_to_nothing_is_no_unit(deltas) -> None:
    deltas[:, :, 0] *= 1e-6
    sizes = layer_rms(deltas)
    assert sizes.shape == (3, 1)
    expected = deltas.square().mean((0, 1, 3)).sqrt()[:, None]
    torch.testing.assert_close(sizes[1:], expected[1:])
    torch.testing.assert_close(sizes[0], expected.max(0).values)
    assert layer_rms(torch.zeros(2, 5, 3, 8)).min() > 0


def test_a_large_layer_does_not_choose_alone_what_is_retrieved(deltas) -> None:
    query = deltas[0].clone()
    query[:, 2] = deltas[1, :, 2]
    deltas[:, :, 2] *= 100
    query[:, 2] *= 100
    assert int(retrieve(query, deltas, 1)[0]) == 0


def test_the_cosine_counts_every_layer_that_the_target_moves(deltas) -> None:
    edit = deltas.clone()
    edit[:, :, :2] = 0  # agrees in the last layer, moves no other
    torch.testing.assert_close(delta_cosine(edit, deltas), torch.full((4,), 1 / 3))
    torch.testing.assert_close(delta_cosine(deltas, edit), torch.ones(4))
    torch.testing.assert_close(delta_norm_ratio(deltas, edit), torch.ones(4))
    torch.testing.assert_close(delta_norm_ratio(edit, deltas), torch.full((4,), 1 / 3))


def test_a_layer_that_moves_by_rounding_does_not_count(deltas) -> None:
    other = deltas.clone()
    deltas[:, :, 0], other[:, :, 0] = 1e-6 * deltas[:, :, 0], -1e-6 * other[:, :, 0]
    torch.testing.assert_close(delta_cosine(other, deltas), torch.ones(4))
    torch.testing.assert_close((directions(other) * directions(deltas)).sum(1), torch.ones(4))
