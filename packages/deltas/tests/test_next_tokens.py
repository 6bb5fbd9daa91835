"""Next tokens are those of the model, whatever it does to its logits."""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from llgbm.deltas.log_likelihood import branch_log_likelihoods
from llgbm.deltas.next_tokens import next_token_logits
from llgbm.deltas.packing import TokenTree, pack

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": 2,
}  # fmt: skip
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, head_dim=16, final_logit_softcapping=0.05)
    ),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.25)),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_whole_model(name) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    ids = torch.arange(3, 13)[None]
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        torch.testing.assert_close(next_token_logits(model, states), expected)


# Gemma 2 has no attention that takes the mask of packed rows.
@pytest.mark.parametrize("name", ["llama", "granite", "cohere"])
def test_log_likelihoods_are_those_of_the_whole_model(name) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    trunk, branch = (3, 4, 5, 6), (7, 8)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*trunk, *branch]]), use_cache=False).logits[0]
        chances = logits.float().log_softmax(-1)
        found = branch_log_likelihoods(model, pack([[TokenTree(trunk, (branch,))]]))
    expected = chances[3, 7] + chances[4, 8]
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)
