"""Arms are what they say: null adapters, retrieved merges, and pools that share."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from llgbm.deltas.errors import AdapterError, SettingError
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.task import Example
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.arms import ARMS, REGISTRY, choose_arms
from llgbm.generators.evaluation.arms.context import ArmSettings
from llgbm.generators.evaluation.arms.nulls import gaussian_adapter, teacher_with_noise
from llgbm.generators.evaluation.arms.retrieval import _merged
from llgbm.generators.evaluation.pool import AdapterPool
from llgbm.generators.evaluation.tasks import with_prefix


def update(weights: LoRAWeights, path: str) -> torch.Tensor:
    """ΔW of the first adapter's module."""
    return weights.spec.scaling * weights.lora_B[path][0] @ weights.lora_A[path][0]


def test_noise_has_the_stated_size_in_every_module(tiny_spec, make_teachers) -> None:
    teacher = make_teachers(tiny_spec, 1)
    noisy = teacher_with_noise(teacher, 0.5, torch.Generator().manual_seed(0))
    assert noisy.spec.r == 2 * tiny_spec.r
    for path in tiny_spec.paths:
        clean = update(teacher, path)
        # Nothing is cut off: rank 2 r holds teacher and noise whole. float32 through QR and SVD.
        size = (update(noisy, path) - clean).norm() / clean.norm()
        assert float(size) == pytest.approx(0.5, rel=1e-3)


def test_a_gaussian_adapter_lies_in_the_span_of_the_teachers(tiny_spec, make_teachers) -> None:
    # Two teachers of rank 2 that share A's rows span updates of rank 4 = the spec's: no cut.
    teachers = make_teachers(tiny_spec, 2)
    halves = LoRAWeights(
        tiny_spec,
        {p: torch.cat([f[:, :2], 0 * f[:, 2:]], 1) for p, f in teachers.lora_A.items()},
        teachers.lora_B,
    )
    drawn = gaussian_adapter(halves, torch.Generator().manual_seed(0))
    shares = []
    for path in tiny_spec.paths:
        basis = torch.stack([update(halves.select([i]), path).flatten() for i in range(2)], 1)
        found = update(drawn, path).flatten()
        share = torch.linalg.lstsq(basis, found).solution
        assert float((basis @ share - found).norm() / found.norm()) < 1e-3
        shares.append(share)
    # Modules vary together, as they do among teachers, and around the mean.
    torch.testing.assert_close(
        torch.stack(shares), shares[0].expand(len(shares), 2), atol=1e-3, rtol=0
    )
    assert float(shares[0].sum()) == pytest.approx(1, abs=1e-3)


def test_gaussian_draws_have_the_teachers_mean_and_spread(tiny_spec, make_teachers) -> None:
    # Three teachers of rank 1 span updates of rank 3 < r: nothing is cut off.
    spec = LoRASpec(tiny_spec.modules[:1], tiny_spec.r, tiny_spec.lora_alpha)
    path = spec.paths[0]
    teachers = make_teachers(spec, 3, seed=1)
    keep = torch.tensor([1.0, 0, 0, 0])
    teachers = LoRAWeights(
        spec, {path: teachers.lora_A[path] * keep[:, None]}, {path: teachers.lora_B[path] * keep}
    )
    updates = torch.stack([update(teachers.select([i]), path) for i in range(3)])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([update(gaussian_adapter(teachers, generator), path) for _ in range(400)])
    # 400 draws with two degrees of freedom: the variance is known to about 7%.
    ratio = float(drawn.var(0).sum() / updates.var(0).sum())
    assert ratio == pytest.approx(1, abs=0.2)
    error = (drawn.mean(0) - updates.mean(0)).norm() / (updates.var(0).sum() / 400).sqrt()
    assert float(error) < 3
    first, again = (
        gaussian_adapter(teachers, torch.Generator().manual_seed(0)).lora_B[path] for _ in "ab"
    )
    assert torch.equal(first, again)
    single = gaussian_adapter(teachers.select([0]), generator)
    torch.testing.assert_close(update(single, path), updates[0], atol=1e-5, rtol=1e-3)


def test_equal_keys_are_one_adapter_and_specs_run_apart(tiny_spec, make_teachers) -> None:
    pool, made = AdapterPool(), []

    def make() -> LoRAWeights:
        made.append(1)
        return make_teachers(tiny_spec, 1)

    pool.add("teacher", "teacher:a", make)
    pool.add("nearest_text", "teacher:a", make)
    pool.add("nearest_delta", "teacher:a", make)
    pool.add("nearest_delta", "teacher:a", make)
    assert len(made) == len(pool.weights) == 1
    assert pool.arms == {"teacher": [0], "nearest_text": [0], "nearest_delta": [0, 0]}
    wide = teacher_with_noise(make_teachers(tiny_spec, 1), 1.0, torch.Generator().manual_seed(0))
    pool.add("teacher_noise", "noise:a", lambda: wide)
    pool.add("described", "described", lambda: LoRAWeights.zeros(tiny_spec), prefix="Say caps")
    groups = pool.groups()
    assert list(groups.values()) == [[0], [1], [2]]
    assert pool.batch([1]).spec.r == 8


def test_an_adapter_with_nan_is_not_scored(tiny_spec) -> None:
    broken = LoRAWeights.zeros(tiny_spec).map(lambda factor: factor * float("nan"))
    with pytest.raises(AdapterError, match="random: .* NaN or Inf"):
        AdapterPool().add("random", "random", lambda: broken)


def test_arms_are_chosen_by_name_in_table_order() -> None:
    assert choose_arms(("all",)) == ARMS
    default = choose_arms(("default",))
    assert {"described", "retrieved_average"} <= set(default)
    assert not {"retrieved_ties", "multi_task", "rank1"} & set(default)
    # What the metrics are made of is always there.
    assert choose_arms(("rank1",)) == ("base", "mean_adapter", "rank1", "generated", "teacher")
    assert choose_arms(("default", "gaussian")) == tuple(
        name for name in ARMS if REGISTRY[name].default or name == "gaussian"
    )
    with pytest.raises(SettingError, match="arms: expected all, default or some of"):
        choose_arms(("nearest",))


@pytest.mark.parametrize(
    "settings", [{"neighbours": 0}, {"density": 0.0}, {"noise": -1.0}, {"multi_task_factor": 0}]
)
def test_sizes_of_arms_that_make_no_sense_are_refused(settings) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        ArmSettings(**settings)


def test_a_description_stands_before_the_query_and_changes_nothing_else() -> None:
    examples = [Example("2 + 2 =", (" 4", " 5"), 0)]
    assert with_prefix(examples, "Add numbers") == [
        Example("Add numbers\n\n2 + 2 =", (" 4", " 5"), 0)
    ]
    assert with_prefix(examples, "") == examples


def test_ties_of_one_adapter_is_that_adapter_pruned_and_not_made_smaller(
    tiny_spec, make_teachers
) -> None:
    # Equal adapters agree everywhere: with shares of 1 their TIES merge keeps their size.
    same = make_teachers(tiny_spec, 1).select([0, 0, 0])
    context = SimpleNamespace(
        train=same,
        device=torch.device("cpu"),
        settings=ArmSettings(density=1.0),
        drawn=lambda key: torch.Generator().manual_seed(0),
    )
    path = tiny_spec.paths[0]
    for method in ("ties", "average", "dare"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT says that density 1 prunes nothing
            merged = _merged(context, [0, 1, 2], method, method)
        torch.testing.assert_close(update(merged, path), update(same, path), atol=1e-5, rtol=1e-3)
