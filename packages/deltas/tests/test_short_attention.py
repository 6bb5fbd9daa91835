"""Plain products attend as flash attention does, and the model is left as it was."""

import pytest
import torch

from llgbm.deltas import short_attention as module
from llgbm.deltas.delta import compute_base_activation, compute_delta
from llgbm.deltas.plain_attention import NAME
from llgbm.deltas.probes import TokenizedProbes
from llgbm.deltas.short_attention import SHORT, short_attention
from llgbm.deltas.weights import LoRAWeights

IDS = torch.randint(0, 256, (4, 7), generator=torch.Generator().manual_seed(1))
PROBES = TokenizedProbes(IDS, torch.tensor([7, 5, 7, 3]), "test")


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma3"])
def test_deltas_and_gradients_equal_those_of_flash_attention(
    kind, make_tiny_model, make_weights, monkeypatch
) -> None:
    model = make_tiny_model(kind=kind)
    results = []
    for short in (SHORT, 0):
        monkeypatch.setattr(module, "SHORT", short)
        weights = make_weights(model).map(lambda factor: factor.clone().requires_grad_())
        delta = compute_delta(model, weights, PROBES)
        (delta * torch.linspace(-1, 2, delta.shape[1])).sum().backward()
        results.append([delta.detach(), *(f.grad for f in weights.lora_A.values())])
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=0)
    for mine, other in zip(results[0][1:], results[1][1:], strict=True):
        assert (mine - other).norm() <= 1e-4 * other.norm()


def test_an_adapter_that_changes_nothing_has_a_delta_of_nothing(make_tiny_model) -> None:
    from llgbm.deltas.spec import LoRASpec

    model = make_tiny_model().to(torch.bfloat16)
    zeros = LoRAWeights.zeros(LoRASpec.from_model(model, 2), 1)
    assert not compute_delta(model, zeros, PROBES).any()


def test_long_sequences_and_other_implementations_are_left_alone(make_tiny_model) -> None:
    model = make_tiny_model()
    config = model.config
    with short_attention(model, SHORT):
        assert config._attn_implementation == NAME
    assert config._attn_implementation == "sdpa"
    with short_attention(model, SHORT + 1):
        assert config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError), short_attention(model, 3):
        raise RuntimeError
    assert config._attn_implementation == "sdpa"
    compute_base_activation(model, PROBES)
    assert config._attn_implementation == "sdpa"


def test_models_with_more_in_their_attention_run_their_own_products(make_tiny_model) -> None:
    model = make_tiny_model(kind="gemma3")
    with short_attention(model, SHORT):
        assert model.config._attn_implementation == "eager"
