"""The rank-1 adversary: it has the mean delta, and nothing else of the teacher."""

import pytest
import torch

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.errors import ModelError
from llgbm.deltas.probes import ProbeSet, create_generic_probes
from llgbm.deltas.recommended import several_layers
from llgbm.deltas.tokenizers import register_tokenizer
from llgbm.generators.evaluation.identifiability import (
    averaged,
    identifiability_table,
    identify,
)
from llgbm.generators.evaluation.rank_one import last_module, match_mean_delta

# The generic probes all end in the same byte, as most prompts with "Answer:" would; these do not.
HELD_OUT = ProbeSet(("What is 7 times 8", "The capital city of Fra", "def f(x)", "Eggs!", "* ;"))


@pytest.fixture
def model(make_tiny_model, tokenizer):
    model = make_tiny_model()
    register_tokenizer(model, tokenizer)
    return model


def test_an_edit_of_rank_one_has_the_mean_delta_of_a_whole_adapter(
    model, tiny_spec, make_teachers
) -> None:
    probes = create_generic_probes()
    with torch.no_grad():
        targets = compute_delta(model, make_teachers(tiny_spec, 3), probes)
        edits = match_mean_delta(model, probes, targets)
        found = compute_delta(model, edits, probes)
    assert edits.spec.paths == ("model.layers.1.mlp.down_proj",)
    assert edits.spec.r == 1
    assert (delta_cosine(found, targets) > 0.99).all()
    # Not the direction alone: the length is matched too.
    assert ((found - targets).norm(dim=1) < 0.1 * targets.norm(dim=1)).all()


def test_adversaries_do_not_depend_on_their_company(model, tiny_spec, make_teachers) -> None:
    probes = create_generic_probes()
    with torch.no_grad():
        targets = compute_delta(model, make_teachers(tiny_spec, 2), probes)
    alone = match_mean_delta(model, probes, targets[:1], steps=5)
    path = alone.spec.paths[0]
    together = match_mean_delta(model, probes, targets, steps=5)
    torch.testing.assert_close(
        alone.lora_B[path][0], together.lora_B[path][0], rtol=1e-3, atol=1e-6
    )


def test_held_out_probes_layers_and_kl_expose_the_adversary(
    model, tiny_spec, make_teachers
) -> None:
    teachers = make_teachers(tiny_spec, 4)
    verdicts = identify(model, teachers.select([0, 1]), teachers.select([2, 3]), HELD_OUT)
    for verdict in verdicts:
        teacher, rank1 = verdict["teacher"], verdict["rank1"]
        assert rank1.mean_cosine > 0.95  # fooled: five probes, their mean, one layer
        assert rank1.held_out_cosine < 0.5
        # Below the last layer nothing moves, so the mean over two layers is at most a half.
        assert rank1.layers_cosine <= 0.5
        # Its KL to the teacher is the base's: it behaves as if nothing had been trained.
        assert rank1.kl > 0.8 * verdict["base"].kl
        # What the recommended objective says: 0 for the teacher, 1 for the base.
        assert (teacher.loss, teacher.held_out_loss) == pytest.approx((0, 0), abs=1e-4)
        assert verdict["base"].loss == pytest.approx(1, abs=1e-4)
        assert rank1.loss > 0.5
        assert rank1.held_out_loss > 0.75
        assert teacher.mean_cosine == pytest.approx(1, abs=1e-5)
        # One that is fitted to the objective itself gets lower there, and is no teacher elsewhere.
        fitted = verdict["rank1_fitted"]
        assert fitted.loss < rank1.loss
        assert fitted.held_out_loss > max(0.5, fitted.loss)
    table = identifiability_table(averaged(verdicts))
    assert "rank1" in table.splitlines()[0]
    assert len(table.splitlines()) == 8


def test_layers_are_spread_and_end_with_the_last(model) -> None:
    assert several_layers(model) == (-2, -1)
    model.config.num_hidden_layers = 30
    assert several_layers(model) == (-21, -11, -1)


def test_a_target_that_cannot_be_matched_is_refused(model) -> None:
    probes = create_generic_probes()
    for target in (torch.zeros(1, 32), torch.ones(32), torch.ones(1, 31)):
        with pytest.raises(ValueError, match="target: expected nonzero"):
            match_mean_delta(model, probes, target)
    for layer in model.model.layers:
        layer.mlp.w2 = layer.mlp.down_proj
        del layer.mlp.down_proj
    with pytest.raises(ModelError, match="down_proj"):
        last_module(model)


def test_the_default_spec_is_the_one_that_is_fooled() -> None:
    # Delta Activations' mean over five probes of the last token after the last layer.
    assert DeltaSpec() == DeltaSpec((-1,), "last_token", "mean")
