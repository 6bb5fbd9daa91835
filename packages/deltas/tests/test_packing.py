"""A packed branch is scored as if it stood alone after its trunk."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.packing import TokenTree, pack

TOKENS = st.lists(st.integers(0, 255), min_size=1, max_size=6).map(tuple)
TREES = st.lists(
    st.builds(TokenTree, TOKENS, st.lists(TOKENS, max_size=3).map(tuple)), min_size=1, max_size=6
)


def states_of(model, batch) -> torch.Tensor:
    return model.get_decoder()(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=batch.attention_mask,
        use_cache=False,
    ).last_hidden_state.flatten(0, 1)


def plain_states(model, tree: TokenTree, branch: tuple[int, ...]) -> torch.Tensor:
    """States that predict the branch's tokens, from trunk + branch alone."""
    ids = torch.tensor([[*tree.trunk, *branch]])
    states = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
    return states[len(tree.trunk) - 1 : -1]


@given(st.lists(TREES, min_size=1, max_size=3), st.sampled_from([None, 30]))
@settings(max_examples=20, deadline=None)
def test_every_branch_is_predicted_as_if_alone(groups, row_tokens) -> None:
    model = MODEL()
    with torch.no_grad():
        batch = pack(groups, row_tokens=row_tokens)
        states = states_of(model, batch)[batch.source]
        flat = [(tree, branch) for group in groups for tree in group for branch in tree.branches]
        assert batch.branches == len(flat)
        for number, (tree, branch) in enumerate(flat):
            mine = batch.branch == number
            assert tuple(batch.target[mine].tolist()) == branch
            torch.testing.assert_close(
                states[mine], plain_states(model, tree, branch), atol=1e-5, rtol=0
            )
    assert batch.tokens == sum(len(tree) for group in groups for tree in group)
    assert sum(batch.rows_per_adapter) == len(batch.input_ids)


_CACHE: list = []


def MODEL():
    if not _CACHE:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
        _CACHE.append(LlamaForCausalLM(config).eval())
    return _CACHE[0]


def test_repeated_rows_give_each_adapter_its_own_scores(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    weights = make_weights(model, n=2)
    trees = [TokenTree((5, 6, 7), ((8, 9), (10,))), TokenTree((1,), ((2,),))]
    batch = pack([trees]).repeat(2)
    lora = FunctionalLoRA(model, weights.spec)
    with torch.no_grad():
        with lora.applied(weights, rows=batch.rows_per_adapter):
            states = states_of(model, batch)[batch.source]
        for adapter in range(2):
            with lora.applied(weights.select([adapter])):
                expected = plain_states(model, trees[0], trees[0].branches[0])
            mine = batch.branch == adapter * 3
            torch.testing.assert_close(states[mine], expected, atol=1e-5, rtol=0)


def test_unequal_lengths_waste_less_than_a_third() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = [
        [
            TokenTree(tuple(range(1, 2 + int(n))))
            for n in torch.randint(low, high, (12,), generator=generator)
        ]
        for low, high in ((10, 40), (60, 160), (20, 90), (5, 15))
    ]
    assert pack(groups).padding_share < 1 / 3


def test_a_tree_longer_than_its_row_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 3 tokens, got 4"):
        pack([[TokenTree((1, 2, 3, 4))]], row_tokens=3)
    with pytest.raises(ValueError, match="at least one tree"):
        pack([[]])
    with pytest.raises(ValueError, match="at least one token"):
        TokenTree(())


def test_cutting_keeps_the_end_and_the_token_that_opens_texts() -> None:
    from types import SimpleNamespace

    from llgbm.deltas.tokenizers import cut_left

    tokenizer = SimpleNamespace(bos_token_id=1)
    assert cut_left([1, 2, 3, 4, 5], 3, tokenizer) == (1, 4, 5)
    assert cut_left([2, 3, 4, 5], 3, tokenizer) == (3, 4, 5)
    assert cut_left([1, 2], 3, tokenizer) == (1, 2)
