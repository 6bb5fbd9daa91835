import math

import pytest
import torch

from llgbm.deltas.errors import AdapterError, CacheError, SettingError
from llgbm.deltas.merging import merge
from llgbm.deltas.retrieval import retrieve


def updates(weights) -> dict[str, torch.Tensor]:
    scaling = weights.spec.scaling
    return {p: scaling * weights.lora_B[p] @ weights.lora_A[p] for p in weights.spec.paths}


def test_merging_averages_in_delta_w_space(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=3)
    merged = merge(weights, r=12)
    for path, update in updates(weights).items():
        torch.testing.assert_close(updates(merged)[path][0], update.mean(0), atol=1e-5, rtol=0)


def test_truncation_is_the_best_of_its_rank(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=3)
    merged = merge(weights, [0.5, -1.0, 2.0])
    assert merged.spec == weights.spec
    for path, update in updates(weights).items():
        target = (torch.tensor([0.5, -1.0, 2.0])[:, None, None] * update).sum(0)
        u, s, vh = torch.linalg.svd(target)
        best = u[:, :4] @ torch.diag(s[:4]) @ vh[:4]
        torch.testing.assert_close(updates(merged)[path][0], best, atol=1e-4, rtol=1e-4)


def test_averaging_factors_apart_would_be_something_else(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    path = weights.spec.paths[0]
    apart = weights.lora_B[path].mean(0) @ weights.lora_A[path].mean(0) * weights.spec.scaling
    exact = updates(merge(weights, r=8))[path][0]
    assert (apart - exact).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_ties_and_dare_at_full_density_of_one_adapter_keep_it(
    method, make_tiny_model, make_weights
) -> None:
    weights = make_weights(make_tiny_model(), n=1)
    merged = merge(weights, method=method, density=1.0)
    for path, update in updates(weights).items():
        torch.testing.assert_close(updates(merged)[path], update, atol=1e-4, rtol=1e-3)


def test_dare_is_seeded(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)

    def merged(seed: int) -> torch.Tensor:
        result = merge(weights, method="dare", generator=torch.Generator().manual_seed(seed))
        return updates(result)[weights.spec.paths[0]]

    assert torch.equal(merged(1), merged(1))
    assert not torch.equal(merged(1), merged(2))


def test_bad_arguments_are_named(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    with pytest.raises(ValueError, match="coefficients: expected 2"):
        merge(weights, [1.0])
    with pytest.raises(ValueError, match="method: expected"):
        merge(weights, method="soup")  # type: ignore[arg-type]
    for density in (0.0, 2.0, math.nan):
        with pytest.raises(SettingError, match="density: expected above 0 and at most 1"):
            merge(weights, method="ties", density=density)
    with pytest.raises(SettingError, match="r: expected at least 1, got 0"):
        merge(weights, r=0)


@pytest.mark.parametrize("method", ["average", "ties", "dare"])
def test_what_is_not_finite_is_not_merged(method, make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model(), n=2)
    huge = weights.map(lambda factor: 1e25 * factor)
    with pytest.raises(AdapterError, match="q_proj: expected a sum within float32"):
        merge(huge, method=method)
    weights.lora_A[weights.spec.paths[1]][0, 0, 0] = math.nan
    with pytest.raises(AdapterError, match=f"merge: {weights.spec.paths[1]}.lora_A: expected fin"):
        merge(weights, method=method)


def test_retrieval_returns_the_nearest_by_cosine() -> None:
    deltas = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.1], [3.0, 3.0]])
    indices, cosines = retrieve(torch.tensor([0.1, 5.0]), deltas, k=2)
    assert indices.tolist() == [1, 3]
    assert cosines[0] > 0.99
    many, _ = retrieve(deltas, deltas, k=9)
    assert many.shape == (4, 4)
    assert many[:, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="query: expected shape"):
        retrieve(torch.ones(3), deltas)
    with pytest.raises(ValueError, match="N > 0"):
        retrieve(torch.ones(2), torch.ones(0, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_not_finite_are_not_ranked(bad) -> None:
    deltas = torch.tensor([[1.0, 0.0], [bad, 2.0]])
    with pytest.raises(CacheError, match="deltas: row 1: expected finite values, got NaN or Inf"):
        retrieve(torch.ones(2), deltas)
    with pytest.raises(CacheError, match="query: row 0: expected finite values"):
        retrieve(deltas[1], torch.ones(1, 2))
