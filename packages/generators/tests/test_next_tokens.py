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

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError
from llgbm.generators.training.next_tokens import next_token_logits, require_next_tokens

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


def test_deltas_without_the_last_token_of_the_last_layer_are_refused_with_a_way_out() -> None:
    require_next_tokens(DeltaSpec((-2, -1), aggregation="per_probe"))
    for spec in (
        DeltaSpec(),
        DeltaSpec((-2,), aggregation="per_probe"),
        DeltaSpec(pooling="mean", aggregation="per_probe"),
    ):
        with pytest.raises(SettingError, match="objective.lambda-kl 0"):
            require_next_tokens(spec)
