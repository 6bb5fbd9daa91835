"""Canonical forms: the same update, whatever its factors, and back."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.deltas.canonical.adapters import (
    CANONICAL_FORMS,
    align_adapters,
    canonicalize_adapter,
)
from llgbm.deltas.canonical.alignment import align_factors, singular_blocks
from llgbm.deltas.canonical.gauge import random_gauge
from llgbm.deltas.canonical.orthogonal import OrthogonalForm
from llgbm.deltas.canonical.product_svd import product_svd
from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.errors import AdapterError, SettingError
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights

SPEC = LoRASpec(
    (ModuleShape("layers.0.a", 12, 9), ModuleShape("layers.0.b", 7, 20)), r=4, lora_alpha=8.0
)


def adapters(n: int = 3, spec: LoRASpec = SPEC, seed: int = 0) -> LoRAWeights:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return LoRAWeights(
        spec,
        {m.path: draw(n, spec.r, m.in_features) for m in spec.modules},
        {m.path: draw(n, m.out_features, spec.r) for m in spec.modules},
    )


def updates(weights: LoRAWeights) -> dict[str, torch.Tensor]:
    scaling = weights.spec.scaling
    return {p: scaling * weights.lora_B[p] @ weights.lora_A[p] for p in weights.spec.paths}


def assert_same_updates(found: LoRAWeights, expected: LoRAWeights, rtol: float = 1e-5) -> None:
    for path, update in updates(expected).items():
        error = (updates(found)[path] - update).norm()
        assert float(error) <= rtol * float(update.norm()) + 1e-12, path


@pytest.mark.parametrize("form", CANONICAL_FORMS)
def test_the_inverse_returns_the_update(form) -> None:
    weights = adapters()
    assert_same_updates(canonicalize_adapter(weights, form).weights(), weights)


@pytest.mark.parametrize("form", CANONICAL_FORMS)
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    r=st.integers(1, 12),
    kept=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_deficient_updates_and_ranks_above_a_dimension_come_back(
    form, sizes, r, kept, seed
) -> None:
    spec = LoRASpec((ModuleShape("x", *sizes),), r=r, lora_alpha=float(r))
    weights = adapters(2, spec, seed)
    weights.lora_B["x"][:, :, kept:] = 0  # rank at most `kept`; 0 changes nothing
    canonical = canonicalize_adapter(weights, form)
    assert all(torch.isfinite(part).all() for part in canonical.parts["x"].values())
    assert_same_updates(canonical.weights(), weights, 2e-5)


@pytest.mark.parametrize("form", [name for name, f in CANONICAL_FORMS.items() if f.gauge_free])
def test_no_gauge_shows_in_the_parts(form) -> None:
    weights = adapters()
    weights = weights.map(torch.Tensor.double)
    first = canonicalize_adapter(weights, form).parts
    for seed in range(5):
        other = random_gauge(weights, torch.Generator().manual_seed(seed))
        assert not torch.allclose(other.lora_A["layers.0.a"], weights.lora_A["layers.0.a"])
        for path, parts in canonicalize_adapter(other, form).parts.items():
            for name, part in parts.items():
                torch.testing.assert_close(part, first[path][name], atol=1e-9, rtol=1e-7)


def test_rows_of_length_one_settle_sizes_alone() -> None:
    weights = adapters()
    parts = canonicalize_adapter(weights, "a_normalized").parts["layers.0.a"]
    torch.testing.assert_close(parts["lora_A"].norm(dim=2), torch.ones(3, 4))
    sized = LoRAWeights(
        SPEC,
        {path: 3 * factor for path, factor in weights.lora_A.items()},
        {path: factor / 3 for path, factor in weights.lora_B.items()},
    )
    found = canonicalize_adapter(sized, "a_normalized").parts["layers.0.a"]
    torch.testing.assert_close(found["lora_B"], parts["lora_B"])


def test_the_core_gives_the_decomposition_of_the_product() -> None:
    weights = adapters()
    A, B = (f["layers.0.a"].double() for f in (weights.lora_A, weights.lora_B))
    u, s, vh = product_svd(A, B)
    torch.testing.assert_close(s, torch.linalg.svdvals(B @ A)[:, :4])
    torch.testing.assert_close((u * s[:, None]) @ vh, B @ A)
    torch.testing.assert_close(u.mT @ u, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    zero = product_svd(A, 0 * B)
    assert not any(part.any() for part in zero)


def test_near_equal_singular_values_are_one_block() -> None:
    s = torch.tensor([5.0, 3.0, 2.95, 2.9, 1.0, 0.0, 0.0])
    assert singular_blocks(s) == [slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 7)]
    assert singular_blocks(s, near=0.0)[1] == slice(1, 2)
    assert singular_blocks(torch.tensor([2.0])) == [slice(0, 1)]


def test_alignment_undoes_flips_and_turns_within_blocks_and_keeps_the_update() -> None:
    # Two near-equal values: a decomposition may return any basis of their plane.
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(9, 3, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(12, 3, generator=generator, dtype=torch.float64))
    s = torch.tensor([4.0, 2.0, 2.0], dtype=torch.float64)
    reference = (s.sqrt()[:, None] * v.mT, u * s.sqrt())
    angle = torch.tensor(1.1, dtype=torch.float64)
    turn = torch.eye(3, dtype=torch.float64)
    turn[1:, 1:] = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    turn[0, 0] = -1
    other = (turn.mT @ reference[0], reference[1] @ turn)
    A, B = align_factors(*other, *reference, singular_blocks(s))
    torch.testing.assert_close(A, reference[0])
    torch.testing.assert_close(B, reference[1])
    torch.testing.assert_close(B @ A, reference[1] @ reference[0])


def test_aligned_adapters_agree_where_the_largest_entry_rule_flips() -> None:
    base = adapters(1, seed=3)
    generator = torch.Generator().manual_seed(1)
    near = [
        base.map(lambda f: f + 0.05 * torch.randn(f.shape, generator=generator)) for _ in range(8)
    ]
    family = LoRAWeights.concatenate([base, *near])
    aligned = align_adapters(family)
    assert_same_updates(aligned, family, 1e-4)
    plain = canonicalize_adapter(family, "svd").weights()
    for path in SPEC.paths:
        spread = [(w.lora_B[path] - w.lora_B[path][:1]).norm() for w in (aligned, plain)]
        assert spread[0] <= spread[1] + 1e-4


@pytest.mark.parametrize("alpha", [1e30, 1e38])
def test_an_adapter_beyond_float32_is_told_and_nothing_is_written(
    saved_model, make_tiny_model, make_weights, tmp_path, capsys, alpha
) -> None:
    weights = make_weights(make_tiny_model(), n=1)
    spec = replace(weights.spec, lora_alpha=alpha)
    huge = LoRAWeights(spec, weights.lora_A, weights.lora_B)
    save_adapter(huge, tmp_path / "store" / "a", str(saved_model))
    out = tmp_path / "canonical.json"
    assert CONSOLE.run(["canonical", str(tmp_path / "store"), "--out", str(out)]) == 2
    assert "expected a finite number, got nan" in capsys.readouterr().err
    assert not out.exists()


def test_what_cannot_be_brought_into_a_form_is_named() -> None:
    weights = adapters()
    with pytest.raises(SettingError, match="form: expected one of .* got 'lu'"):
        canonicalize_adapter(weights, "lu")
    weights.lora_A["layers.0.b"][1, 0, 0] = float("nan")
    with pytest.raises(AdapterError, match="layers.0.b: expected finite values, got NaN"):
        canonicalize_adapter(weights)
    with pytest.raises(SettingError, match="reference: expected from 0 to 2, got 3"):
        align_adapters(adapters(), 3)


def test_a_folder_is_checked_for_behaviour_inverses_and_gauges(
    saved_model, make_tiny_model, make_weights, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("llgbm.deltas.base_models.default_dtype", lambda device: torch.float32)
    weights = make_weights(make_tiny_model(), n=2)
    for index in range(2):
        save_adapter(weights.select([index]), tmp_path / "store" / f"a{index}", str(saved_model))
    out = tmp_path / "canonical.json"
    assert CONSOLE.run(["canonical", str(tmp_path / "store"), "--out", str(out)]) == 0
    assert "2 adapters, 8 gauges of each" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["adapters"] == ["a0", "a1"]
    forms = found["forms"]
    assert set(forms) == {"factors", *CANONICAL_FORMS}
    for form in CANONICAL_FORMS:
        assert forms[form]["inverse_error"] < 1e-5
        assert forms[form]["delta_cosine"] > 0.9999
        assert forms[form]["delta_error"] < 1e-3
    for form in ("delta_w", "svd", "qr"):
        assert forms[form]["gauge_variance"] < 1e-10
    assert forms["factors"]["gauge_variance"] > 0.1 < forms["a_normalized"]["gauge_variance"] * 10
    assert CONSOLE.run(["canonical", str(tmp_path / "store"), "--gauges", "1"]) == 2
    assert "gauges: expected at least 2, got 1" in capsys.readouterr().err


def test_the_orthogonal_form_loses_no_direction_that_its_vectors_hardly_see() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(12, 3, generator=generator, dtype=torch.float64)  # as the form draws them
    generator = torch.Generator().manual_seed(1)
    lora_B = torch.randn(1, 12, 3, generator=generator)
    lora_A = torch.randn(1, 3, 9, generator=generator)
    # Two directions that the vectors tell apart by nothing but rounding.
    space, _ = torch.linalg.qr(drawn)
    hidden = lora_B[0, :, 1:].double()
    lora_B[0, :, 1:] = (hidden - space @ (space.mT @ hidden)).float()
    form = OrthogonalForm()
    parts = form.parts(lora_A, lora_B, 2.0)
    back_A, back_B = form.factors(parts, 3, 2.0)
    torch.testing.assert_close(back_B @ back_A, lora_B @ lora_A, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts["q"].mT @ parts["q"], torch.eye(3)[None], rtol=0, atol=1e-5)


def test_the_orthogonal_form_loses_no_direction_that_combinations_of_columns_hardly_see() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    lora_B = torch.randn(1, 12, 3, generator=generator)
    lora_A = torch.randn(1, 3, 9, generator=generator)
    space, _ = torch.linalg.qr(mix)
    hidden = lora_A[0, 1:].double()
    lora_A[0, 1:] = (hidden - (hidden @ space) @ space.mT).float()
    form = OrthogonalForm()
    back_A, back_B = form.factors(form.parts(lora_A, lora_B, 2.0), 3, 2.0)
    torch.testing.assert_close(back_B @ back_A, lora_B @ lora_A, rtol=1e-5, atol=1e-5)
