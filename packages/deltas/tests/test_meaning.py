"""Meanings compare across bases; deltas, projected or not, do not."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llgbm.deltas.delta import compute_delta
from llgbm.deltas.errors import SettingError
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.meaning import CONTINUATIONS, compute_base_meaning, compute_meaning
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.projection import project
from llgbm.deltas.tokenizers import register_tokenizer, tokenizer_of
from llgbm.deltas.weights import LoRAWeights

PROBES = ProbeSet(("Is it so?", "One, two", "Once"))
FEW = (" Yes", " No way", " é")
# Modules that write into the stream of hidden states; all others read from it.
WRITING = ("o_proj", "down_proj")


def plain_scores(model, text: str, continuation: str) -> float:
    """Log-likelihood of one continuation, unbatched, per byte."""
    tokenizer = tokenizer_of(model)
    trunk = tokenizer(text)["input_ids"]
    branch = tokenizer(continuation, add_special_tokens=False)["input_ids"]
    logits = model(input_ids=torch.tensor([trunk + branch])).logits[0].float().log_softmax(-1)
    places = range(len(trunk) - 1, len(trunk) + len(branch) - 1)
    total = sum(float(logits[place, token]) for place, token in zip(places, branch, strict=True))
    return total / len(continuation.encode())


@pytest.fixture
def rotated(make_tiny_model):
    """Return a maker of a model and adapters that behave as given, with other axes inside."""
    generator = torch.Generator().manual_seed(5)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=generator, dtype=torch.float64))[0].float()

    def make(weights: LoRAWeights):
        model = make_tiny_model()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.split(".")[-2] in WRITING:
                    parameter.copy_(turn @ parameter)
                elif parameter.dim() == 2:  # norms scale by one here: they commute with a turn
                    parameter.copy_(parameter @ turn.mT)
        lora_A = {p: f if p.endswith(WRITING) else f @ turn.mT for p, f in weights.lora_A.items()}
        lora_B = {p: turn @ f if p.endswith(WRITING) else f for p, f in weights.lora_B.items()}
        return model, LoRAWeights(weights.spec, lora_A, lora_B)

    return make


@torch.no_grad()
def test_meanings_equal_the_plain_unbatched_computation(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model)
    meaning = compute_meaning(model, weights, PROBES, FEW)
    assert meaning.shape == (3, 9)
    assert meaning.dtype == torch.float32
    lora = FunctionalLoRA(model, weights.spec)
    base = [plain_scores(model, text, more) for text in PROBES.texts for more in FEW]
    for index in range(3):
        with lora.applied(weights.select([index])):
            adapted = [plain_scores(model, text, more) for text in PROBES.texts for more in FEW]
        expected = torch.tensor(adapted) - torch.tensor(base)
        # Sums of up to seven log-likelihoods of size 6 in float32.
        torch.testing.assert_close(meaning[index], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        compute_base_meaning(model, PROBES, FEW)[0], torch.tensor(base), atol=1e-5, rtol=0
    )
    assert float(meaning.abs().max()) > 0.1


@torch.no_grad()
def test_equal_behaviour_in_other_axes_has_equal_meaning_but_no_equal_delta(
    make_tiny_model, make_weights, rotated
) -> None:
    """Two bases that answer alike: a projection does not make their deltas comparable."""
    base = make_tiny_model()
    weights = make_weights(base, n=6)
    other, turned = rotated(weights)
    ids = torch.arange(20)[None]
    torch.testing.assert_close(other(ids).logits, base(ids).logits, atol=1e-5, rtol=0)
    first, second = (compute_meaning(*pair, PROBES) for pair in ((base, weights), (other, turned)))
    # Rounding of the turn, through two layers.
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    mine, others = (compute_delta(*pair, PROBES) for pair in ((base, weights), (other, turned)))
    torch.testing.assert_close(mine.norm(dim=1), others.norm(dim=1), atol=1e-4, rtol=0)
    for left, right in ((mine, others), (project(mine, 256), project(others, 256))):
        # Of chance size (1 / sqrt(32) is 0.18), where the same behaviour ought to have 1.
        assert float(F.cosine_similarity(left, right).abs().mean()) < 0.4
    assert float(F.cosine_similarity(first, second).min()) > 0.9999


def test_bases_of_another_width_and_tokenizer_give_the_same_columns(
    make_tiny_model, make_weights
) -> None:
    narrow = make_tiny_model()
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    wide = LlamaForCausalLM(config).eval().requires_grad_(False)
    pairs = {f"{chr(a)}{chr(a + 1)}": i for i, a in enumerate(range(97, 122))}
    letters = {chr(code): len(pairs) + code for code in range(256)}
    vocabulary = {**pairs, **letters, "<unk>": 290}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    register_tokenizer(wide, PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    with torch.no_grad():
        columns = [
            compute_meaning(model, make_weights(model, n=2), PROBES) for model in (narrow, wide)
        ]
    assert [part.shape for part in columns] == [(2, 3 * len(CONTINUATIONS))] * 2
    assert all(torch.isfinite(part).all() for part in columns)


def test_gradients_reach_every_factor_and_slices_change_nothing(
    make_tiny_model, make_weights, monkeypatch
) -> None:
    model = make_tiny_model()
    weights = make_weights(model).map(lambda factor: factor.requires_grad_())
    meaning = compute_meaning(model, weights, PROBES, FEW)
    base = compute_base_meaning(model, PROBES, FEW)
    monkeypatch.setattr("llgbm.deltas.meaning.TOKENS_PER_FORWARD", 1)
    with torch.no_grad():
        sliced = compute_meaning(model, weights, PROBES, FEW, base)
    torch.testing.assert_close(meaning.detach(), sliced, atol=1e-5, rtol=0)
    meaning.square().sum().backward()
    for factors in (weights.lora_A, weights.lora_B):
        assert all(float(factor.grad.abs().max()) > 0 for factor in factors.values())


def test_texts_that_do_not_fit_are_named(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model, n=1)
    cut = ProbeSet(("short", "too long"), max_tokens=6)
    with pytest.raises(SettingError, match="probes: 1: expected at most 6 tokens, since"):
        compute_meaning(model, weights, cut)
    model.config.max_position_embeddings = 10
    with pytest.raises(SettingError, match="probes: 1: expected at most 3 tokens before a"):
        compute_meaning(model, weights, ProbeSet(("abc", "abcd")), (" Yes", " No way"))
    for bad, words in (((), "at least one, got none"), ((" Yes", ""), "1: expected at least one")):
        with pytest.raises(SettingError, match=words):
            compute_meaning(model, weights, ProbeSet(("abc",)), bad)
