"""The projection is the same everywhere and keeps cosines."""

import hashlib
import math

import pytest
import torch
from torch.nn import functional as F

from llgbm.deltas import projection as module
from llgbm.deltas.errors import SettingError
from llgbm.deltas.projection import project, projection_matrix


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(vectors, dim=1)
    return unit @ unit.mT


def test_the_matrix_is_the_same_on_every_machine() -> None:
    matrix = projection_matrix(70, 9, seed=3)
    assert set(matrix.unique().tolist()) == {-1.0, 1.0}
    digest = hashlib.sha256(matrix.to(torch.int8).numpy().tobytes()).hexdigest()
    assert digest == "9e8e930cd3f789fa9a481a539d979f8b1487db601d1ccf2dbe01bba74ea49f34"


def test_a_row_depends_on_seed_width_and_place_alone() -> None:
    matrix = projection_matrix(70, 9, seed=3)
    assert torch.equal(projection_matrix(70, 4, seed=3), matrix[:4])
    assert torch.equal(projection_matrix(70, 3, seed=3, first=5), matrix[5:8])
    assert not torch.equal(projection_matrix(70, 9, seed=4), matrix)
    assert not torch.equal(projection_matrix(71, 9, seed=3)[:, :70], matrix)


def test_cosines_stay_within_the_johnson_lindenstrauss_error() -> None:
    generator = torch.Generator().manual_seed(0)
    # Around a few directions, so that cosines from -1 to 1 occur.
    centres = torch.randn(6, 1, 900, generator=generator)
    deltas = (centres + 0.7 * torch.randn(6, 8, 900, generator=generator)).flatten(0, 1)
    deltas[1::2] *= -1
    before = cosines(deltas)
    assert float((before - torch.eye(48)).max()) > 0.5
    assert float(before.min()) < -0.5
    for dimension in (128, 512):
        error = (cosines(project(deltas.view(48, 3, 300), dimension)) - before).abs()
        # Standard deviation at most sqrt(2 / dimension); 1128 pairs, so 4.5 of them.
        assert float(error.max()) < 4.5 * math.sqrt(2 / dimension)
        assert float(error.square().mean().sqrt()) < math.sqrt(2 / dimension)


def test_lengths_are_kept_and_blocks_change_nothing(monkeypatch) -> None:
    deltas = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
    whole = project(deltas, 300, seed=2)
    ratio = whole.norm(dim=1) / deltas.norm(dim=1)
    # |Px|² / |x|² has a standard deviation of sqrt(2 / 300), its root half of that.
    assert float((ratio - 1).abs().max()) < 4 * math.sqrt(2 / 300) / 2
    monkeypatch.setattr(module, "BLOCK", 100)
    # Products of other shapes may round otherwise.
    torch.testing.assert_close(project(deltas, 300, seed=2), whole, atol=1e-6, rtol=1e-6)


def test_gradients_pass_through() -> None:
    deltas = torch.ones(2, 10, requires_grad=True)
    project(deltas, 4).sum().backward()
    expected = projection_matrix(10, 4).sum(0) / 2
    torch.testing.assert_close(deltas.grad, expected.expand(2, 10))


def test_bad_settings_are_named() -> None:
    with pytest.raises(SettingError, match="dimension: expected at least 1, got 0"):
        project(torch.ones(2, 3), 0)
    with pytest.raises(SettingError, match="seed: expected from 0 to 4294967295, got -1"):
        project(torch.ones(2, 3), 2, seed=-1)
