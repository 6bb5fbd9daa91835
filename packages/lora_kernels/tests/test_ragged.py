import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.lora_kernels import Segments, lora_linear_ragged
from llgbm.lora_kernels.backends import has_triton
from llgbm.lora_kernels.naive import naive_lora_linear, naive_lora_linear_ragged

BACKENDS = ["torch"] + (["triton", "triton_fused"] if has_triton() else [])
TOLERANCE = 4e-6


@pytest.mark.parametrize("backend", BACKENDS)
@given(
    st.lists(st.sampled_from([0, 1, 2, 5, 40]), min_size=1, max_size=5).filter(any),
    st.sampled_from([1, 3, 16, 37]),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=12)
def test_ragged_rows_equal_the_definition(lora, backend, lengths, in_features, seed) -> None:
    offsets = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    tensors = lora.inputs(offsets[-1], in_features, 21, 5, n=len(lengths), seed=seed)
    got = lora.run(lora_linear_ragged, tensors, offsets=offsets, backend=backend)
    lora.assert_close(got, tensors, naive_lora_linear_ragged, TOLERANCE, offsets=offsets)
    for i, length in enumerate(lengths):
        assert bool(got["lora_B"][i].any()) == (length > 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ranks_that_do_not_count_are_not_read_and_get_no_gradient(lora, backend, poisoned) -> None:
    offsets, ranks = [0, 9, 9, 30, 31], [2, 5, 1, 4]
    tensors = lora.inputs(31, 20, 33, 5, n=4)
    for i, rank in enumerate(ranks):
        tensors["lora_A"][i, rank:] = float("nan")
        tensors["lora_B"][i, :, rank:] = float("nan")
    got = lora.run(lora_linear_ragged, tensors, offsets=offsets, ranks=ranks, backend=backend)
    finite = {name: t.nan_to_num() for name, t in tensors.items()}
    lora.assert_close(
        got, finite, naive_lora_linear_ragged, TOLERANCE, offsets=offsets, ranks=ranks
    )
    for i, rank in enumerate(ranks):
        assert not got["lora_A"][i, rank:].any()
        assert not got["lora_B"][i, :, rank:].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_in_a_row_stays_out_of_ranks_that_do_not_count(lora, backend) -> None:
    tensors = lora.inputs(8, 20, 33, 4, n=2)
    tensors["x"][1, 3] = float("nan")
    got = lora.run(lora_linear_ragged, tensors, offsets=[0, 3, 8], ranks=[2, 4], backend=backend)
    assert not got["lora_A"][0, 2:].any()
    assert not got["lora_B"][0, :, 2:].any()
    assert bool(got["lora_A"][1].isfinite().all())


def test_segments_take_any_whole_numbers_and_are_themselves_alone() -> None:
    made = Segments.of(np.cumsum([0, 2, 3]), np.array([1, 2]))
    assert (made.bounds, made.largest_rank) == ((0, 2, 5), 2)
    again = copy.deepcopy(made)
    assert made == made
    assert again != made
    assert again.bounds == made.bounds


def test_the_ragged_definition_of_equal_rows_is_the_batched_one(lora) -> None:
    tensors = lora.inputs((3, 4), 6, 5, 2, dtype=torch.float64)
    flat = {**tensors, "x": tensors["x"].flatten(0, 1)}
    y = naive_lora_linear_ragged(**flat, offsets=[0, 4, 8, 12])
    torch.testing.assert_close(y.view(3, 4, 5), naive_lora_linear(**tensors))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows_at_all(lora, backend) -> None:
    tensors = lora.inputs(0, 6, 5, 2, n=2)
    got = lora.run(lora_linear_ragged, tensors, offsets=[0, 0, 0], backend=backend)
    assert got["y"].shape == (0, 5)
    assert not got["lora_A"].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_run_gives_the_same_bits(lora, backend) -> None:
    tensors = lora.inputs(60, 65, 33, 6, n=3)
    segments = Segments.of([0, 40, 41, 60], device=lora.device)
    first, second = (
        lora.run(lora_linear_ragged, tensors, offsets=segments, backend=backend) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 2, 1, 4], "never falling"),
        ([1, 2, 3, 4], "from 0"),
        ([0, 1, 2, 3], "expected 0 to 4"),
        ([0, 1, 2, 5], "expected 0 to 4"),
        ([4], "at least 2 numbers"),
        ([], "at least 2 numbers"),
        ([0, 1.5, 2, 4], "whole numbers"),
        ([0, True, 2, 4], "whole numbers"),
        (15, "whole numbers, got 15"),
        (None, "whole numbers, got None"),
        ([0, 2**70], "below 2.63"),
        (torch.tensor([0, 1j]), "a row of whole numbers"),
        (torch.empty(4, dtype=torch.int64, device="meta"), "a row of whole numbers"),
        (torch.tensor([0.0, 1.0, 2.0, 4.0]), "a row of whole numbers"),
        (torch.tensor([[0, 1, 2, 4]]), "a row of whole numbers"),
        ([0, 4], "expected shape .1, 2, 6."),
    ],
)
def test_offsets_that_do_not_cover_x_are_refused(lora, offsets, words) -> None:
    with pytest.raises(ValueError, match=words):
        lora_linear_ragged(**lora.inputs(4, 6, 5, 2, n=3), offsets=offsets)


@pytest.mark.parametrize(
    ("ranks", "words"),
    [([1, 2], "3 numbers"), ([1, 0, 1], "at least 1"), ([1, 3, 1], "at most 2, got 3")],
)
def test_ranks_that_do_not_fit_are_refused(lora, ranks, words) -> None:
    with pytest.raises(ValueError, match=words):
        lora_linear_ragged(**lora.inputs(4, 6, 5, 2, n=3), offsets=[0, 1, 2, 4], ranks=ranks)


def test_x_must_be_flat_and_ranks_given_once(lora) -> None:
    made = lora.inputs(4, 6, 5, 2, n=1)
    segments = Segments.of([0, 4], [2], lora.device)
    with pytest.raises(ValueError, match="got both"):
        lora_linear_ragged(**made, offsets=segments, ranks=[1])
    made["x"] = made["x"][None]
    with pytest.raises(ValueError, match="x: expected .M, in."):
        lora_linear_ragged(**made, offsets=[0, 4])
