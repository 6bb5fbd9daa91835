"""Merging folders: updates formed explicitly agree, unlike adapters are refused."""

import re
from pathlib import Path

import pytest
import torch

from llgbm.deltas.errors import AdapterError, SettingError
from llgbm.deltas.merge_folders import merge_folders
from llgbm.deltas.merging import merge
from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.deltas.same_rank import at_common_rank
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights

SMALL = ("q_proj", "v_proj")


def updates(weights: LoRAWeights) -> dict[str, torch.Tensor]:
    scaling = weights.spec.scaling
    return {p: scaling * weights.lora_B[p] @ weights.lora_A[p] for p in weights.spec.paths}


def best_of_rank(update: torch.Tensor, r: int) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(update)
    return u[:, :r] @ torch.diag(s[:r]) @ vh[:r]


def naive_ties(parts: torch.Tensor, density: float) -> torch.Tensor:
    """The paper's three steps, an entry at a time, from updates [n, out, in]."""
    trimmed = []
    for part in parts:
        kept = sorted(part.abs().flatten().tolist(), reverse=True)[: int(density * part.numel())]
        trimmed.append(torch.where(part.abs() >= kept[-1], part, 0.0))
    result = torch.zeros_like(parts[0])
    for place in range(result.numel()):
        entries = [float(part.flatten()[place]) for part in trimmed]
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [entry for entry in entries if entry * sign > 0]
        result.view(-1)[place] = sum(agreeing) / len(agreeing) if agreeing else 0.0
    return result


@pytest.fixture
def make_folders(make_tiny_model, make_weights, tmp_path):
    """Return a maker of adapter folders, one for each rank given, and their paths."""

    def make(*ranks: int, base: str | None = None, print_: str | None = None) -> list[Path]:
        model, paths = make_tiny_model(), []
        for index, r in enumerate(ranks):
            weights = make_weights(model, n=1, r=r, seed=index, target_modules=SMALL)
            # Other scalings too: 2 by default, then 1 and 3.
            spec = LoRASpec(weights.spec.modules, r, r * (2.0, 1.0, 3.0)[index])
            paths.append(tmp_path / f"a{len(list(tmp_path.iterdir()))}")
            save_adapter(LoRAWeights(spec, weights.lora_A, weights.lora_B), paths[-1], base, print_)
        return paths

    return make


def test_ranks_and_alphas_may_differ_without_changing_an_update(make_folders) -> None:
    adapters = [load_adapter(path) for path in make_folders(4, 2, 3)]
    together = at_common_rank(adapters)
    assert (together.n, together.spec.r, together.spec.scaling) == (3, 4, 3.0)
    for path, update in updates(together).items():
        for index, adapter in enumerate(adapters):
            # Scalings of 2, 1 and 3 at 3: a rounding of float32 each.
            torch.testing.assert_close(
                update[index], updates(adapter)[path][0], atol=1e-6, rtol=1e-6
            )


def test_a_power_of_two_between_scalings_keeps_every_bit(make_folders) -> None:
    first, second = (load_adapter(path) for path in make_folders(4, 2))
    together = at_common_rank([first, second])
    for path in first.spec.paths:
        assert torch.equal(together.lora_A[path][0], first.lora_A[path][0])
        assert torch.equal(together.lora_B[path][0], first.lora_B[path][0])
        assert torch.equal(together.lora_B[path][1, :, :2] * 2, second.lora_B[path][0])


def test_an_average_of_unequal_ranks_is_that_of_the_updates(make_folders, tmp_path) -> None:
    paths = make_folders(4, 2, 3)
    spec = merge_folders(paths, tmp_path / "out", r=9)
    assert spec.r == 9
    merged = updates(load_adapter(tmp_path / "out"))
    for path, update in merged.items():
        mean = sum(updates(load_adapter(p))[path][0] for p in paths) / 3
        torch.testing.assert_close(update[0], mean, atol=1e-5, rtol=0)
    assert merge_folders(paths, tmp_path / "own").r == 4


def test_ties_is_the_papers_ties_on_the_updates(make_folders, tmp_path) -> None:
    paths = make_folders(4, 2, 3)
    merge_folders(paths, tmp_path / "full", "ties", r=16, density=0.3)
    merge_folders(paths, tmp_path / "cut", "ties", density=0.3)
    full, cut = (updates(load_adapter(tmp_path / name)) for name in ("full", "cut"))
    for path in full:
        parts = torch.stack([updates(load_adapter(p))[path][0] for p in paths])
        expected = naive_ties(parts, 0.3)
        for merged, r in ((full, 16), (cut, 4)):
            best = best_of_rank(expected, r)
            torch.testing.assert_close(merged[path][0], best, atol=1e-4, rtol=1e-4)


def test_dare_drops_rescales_and_averages_the_updates(make_folders) -> None:
    together = at_common_rank([load_adapter(path) for path in make_folders(4, 2)])
    # At full rank the result is the merge itself: v_proj is 16 x 32, q_proj 32 x 32.
    merged = updates(merge(together, method="dare", density=0.25, r=32))
    kept = []
    for path, update in updates(together).items():
        # Each entry is 0, or a half of 4 times one update or the other, or of both.
        choices = torch.stack([torch.zeros_like(update[0]), *(2 * update), 2 * update.sum(0)])
        distance = (choices - merged[path]).abs()
        assert float(distance.min(0).values.max()) < 1e-4
        kept.append(float((distance.argmin(0) > 0).float().mean()))
    # Some entry is kept with probability 1 - 0.75²; 3072 entries, five standard deviations.
    assert sum(kept) / len(kept) == pytest.approx(0.4375, abs=0.045)


def test_dare_draws_another_mask_for_every_module(make_folders) -> None:
    together = at_common_rank([load_adapter(path) for path in make_folders(4)])
    merged = updates(merge(together, method="dare", density=0.5, r=32))
    first, second = (merged[f"model.layers.{i}.self_attn.q_proj"][0].abs() > 1e-5 for i in (0, 1))
    # Equal masks would agree in every entry; independent ones do in half of 1024.
    assert float((first == second).float().mean()) < 0.6


def test_merging_leaves_the_global_random_state_alone(make_folders) -> None:
    together = at_common_rank([load_adapter(path) for path in make_folders(4, 2)])
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    merge(together, method="dare")
    assert torch.equal(torch.rand(2), expected)


def test_other_bases_are_refused_by_fingerprint_or_by_name(make_folders, tmp_path) -> None:
    one, two = make_folders(2, base="A", print_="1" * 64) + make_folders(2, base="A", print_="2")
    with pytest.raises(AdapterError, match=r"a1: base model: expected A \(1{12}\) as in .*a0, got"):
        merge_folders([one, two], tmp_path / "out")
    named, other = make_folders(2, base="A") + make_folders(2, base="B")
    with pytest.raises(AdapterError, match="base model: expected A as in .*, got B"):
        merge_folders([named, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # A name alone does not contradict a fingerprint of that name; nor does no name.
    merge_folders([one, named, *make_folders(2)], tmp_path / "out")


def test_one_base_under_two_names_is_one_base(make_folders, tmp_path) -> None:
    paths = make_folders(2, base="A", print_="1" * 64) + make_folders(2, base="/a", print_="1" * 64)
    assert merge_folders(paths, tmp_path / "out").r == 2


def test_other_modules_are_refused(make_folders, tmp_path) -> None:
    path = make_folders(2)[0]
    weights = load_adapter(path)
    kept = weights.spec.modules[1:]
    part = LoRAWeights(
        LoRASpec(kept, 2, 4.0),
        {m.path: weights.lora_A[m.path] for m in kept},
        {m.path: weights.lora_B[m.path] for m in kept},
    )
    save_adapter(part, tmp_path / "part")
    words = r"part: model.layers.0.self_attn.q_proj: \(in, out\): expected \(32, 32\) as in"
    with pytest.raises(AdapterError, match=words):
        merge_folders([path, tmp_path / "part"], tmp_path / "out")
    first = kept[0]
    spec = LoRASpec((ModuleShape(first.path, first.in_features, 5), *kept[1:]), 2, 4.0)
    wrong = LoRAWeights(spec, part.lora_A, {**part.lora_B, first.path: torch.zeros(1, 5, 2)})
    with pytest.raises(AdapterError, match=r"got \(32, 5\)"):
        at_common_rank([part, wrong])
    assert not (tmp_path / "out").exists()


def test_ranks_and_coefficients_that_do_not_fit_are_refused(make_folders, tmp_path) -> None:
    paths = make_folders(2, 2)
    with pytest.raises(SettingError, match="r: expected at most 16, the smallest side, got 17"):
        merge_folders(paths, tmp_path / "out", r=17)
    with pytest.raises(AdapterError, match="coefficients: expected 2, got 1"):
        merge_folders(paths, tmp_path / "out", coefficients=[1.0])
    # The second is finite, but not in float32.
    for first in (float("nan"), 1e300):
        words = f"coefficients: expected finite numbers, got .{re.escape(str(first))}, 1.0"
        with pytest.raises(SettingError, match=words):
            merge_folders(paths, tmp_path / "out", coefficients=[first, 1.0])
    with pytest.raises(AdapterError, match="coefficients: expected one that is not 0, got zeros"):
        merge_folders(paths, tmp_path / "out", coefficients=[0.0, 0.0])
    with pytest.raises(AdapterError, match="expected at least one"):
        merge_folders([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_rank_of_the_adapters_may_be_asked_for_where_it_is_the_default(
    make_folders, tmp_path
) -> None:
    paths = make_folders(40, 2)
    assert merge_folders(paths, tmp_path / "own").r == 40
    assert merge_folders(paths, tmp_path / "asked", r=40).r == 40
    words = "r: expected at most 40, the largest of the adapters, got 41"
    with pytest.raises(SettingError, match=words):
        merge_folders(paths, tmp_path / "more", r=41)
