"""Terms that learn from what the bare reader does with the text."""

import warnings

import pytest
import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import CONTINUE, RECONSTRUCT, Example
from llgbm.latentwire.losses import prefix_kd as prefix_kd_module
from llgbm.latentwire.losses.hidden_kd import HiddenKDTermConfig
from llgbm.latentwire.losses.prefix_kd import PrefixKDTermConfig, mean_divergence
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.scoring import score
from llgbm.latentwire.ways.base import WAYS

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def test_distilling_the_text_into_itself_costs_nothing(step, built):
    step.prefix = replayed(step.reader, step.contexts)
    for config in (PrefixKDTermConfig(), HiddenKDTermConfig(layers=(1, 2, 3)),
                   HiddenKDTermConfig(distance="mse")):  # fmt: skip
        assert float(built(config, step)(step).detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("way", ["lora", "inner", "deep_prefix"])
def test_the_teacher_is_the_bare_reader_whatever_is_attached(
    way, examples, built, step_of, compressor_of, tiny_reader
):
    step = step_of(compressor_of(way=WAYS[way]()), examples)
    with torch.no_grad():
        bare = score(
            tiny_reader, replayed(tiny_reader, step.contexts), step.endings, step.answers
        ).logits
        attached = step.scored.logits
    assert torch.equal(step.taught.logits, bare)
    # The way does change the reader, so the equality above says something.
    assert not torch.allclose(attached, bare, atol=1e-3)
    for config in (PrefixKDTermConfig(), HiddenKDTermConfig()):
        assert built(config, step)(step) > 0


@pytest.mark.parametrize("tokens", [0, 1])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_prefix_kd_is_the_kl_from_text_to_latents(step, tokens, temperature, built, first_rows):
    chosen = range(len(step.scored.row)) if not tokens else first_rows(step.scored)
    total = 0.0
    for i in chosen:
        text = (step.taught.logits[i] / temperature).softmax(-1)
        latent = (step.scored.logits[i] / temperature).softmax(-1)
        total += float((text * (text.log() - latent.log())).sum().detach())
    expected = temperature**2 * total / len(chosen)
    term = built(PrefixKDTermConfig(temperature=temperature, tokens=tokens), step)
    assert float(term(step).detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_neither_the_divergence_nor_its_gradient(chunk):
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 50, dtype=torch.float64), torch.randn(7, 50).double()
    results = []
    for size in (7, chunk):
        leaf = student.clone().requires_grad_()
        value = mean_divergence(leaf, teacher, 1.5, size)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


def test_out_of_memory_halves_the_chunk_and_says_so(step, monkeypatch, built):
    expected = built(PrefixKDTermConfig(), step)(step)
    whole = prefix_kd_module._divergence

    def small(student, teacher, temperature):
        if len(student) > 2:
            raise torch.OutOfMemoryError("no memory")
        return whole(student, teacher, temperature)

    monkeypatch.setattr(prefix_kd_module, "_divergence", small)
    term = built(PrefixKDTermConfig(chunk=8), step)
    with pytest.warns(UserWarning, match="chunk of [42]") as said:
        found = term(step)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert [str(each.message)[-1] for each in said] == ["4", "2"]
    assert term.logged["chunk"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        term(step)


def test_the_teacher_is_silent_about_texts_to_repeat(compressor, examples, built, step_of):
    marked = [
        Example(example.context, "", example.context, mark=mark)
        for example, mark in zip(examples, [CONTINUE, RECONSTRUCT] * 2, strict=True)
    ]
    step = step_of(compressor, marked)
    kept = [i for i, row in enumerate(step.scored.row.tolist()) if row in (0, 2)]
    term = built(PrefixKDTermConfig(), step)
    expected = mean_divergence(step.scored.logits[kept], step.taught.logits[kept], 1.0, 1000)
    torch.testing.assert_close(term(step), expected, **CLOSE)
    assert term.logged["taught"] == pytest.approx(len(kept) / len(step.scored.row))
    only = step_of(compressor, marked[1::2])
    for config in (PrefixKDTermConfig(), HiddenKDTermConfig()):
        nothing = built(config, only)(only)
        nothing.backward(retain_graph=True)
        assert nothing == 0


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_hidden_kd_is_the_mean_distance_of_the_chosen_layers(step, distance, built):
    found = built(HiddenKDTermConfig(layers=(1, 3), distance=distance), step)(step)
    values = []
    for layer in (0, 2):
        ours, theirs = step.scored_layers.layers[layer], step.taught.layers[layer]
        if distance == "cosine":
            norms = ours.norm(dim=-1) * theirs.norm(dim=-1)
            values.append((1 - (ours * theirs).sum(-1) / norms).mean())
        else:
            values.append(((ours - theirs) ** 2).mean() / (theirs**2).mean())
    torch.testing.assert_close(found, sum(values) / 2, **CLOSE)


def test_the_last_layer_is_the_default_and_unknown_ones_are_refused(step, built):
    torch.testing.assert_close(
        built(HiddenKDTermConfig(), step)(step), built(HiddenKDTermConfig(layers=(3,)), step)(step)
    )
    with pytest.raises(ConfigError, match="1 to 3"):
        built(HiddenKDTermConfig(layers=(4,)), step)
    with pytest.raises(ConfigError, match="distance"):
        built(HiddenKDTermConfig(distance="manhattan"), step)
