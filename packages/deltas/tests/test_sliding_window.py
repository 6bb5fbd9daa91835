"""A packed branch is scored as if it stood alone, also by layers that look back a few tokens."""

import pytest
import torch

from llgbm.deltas.log_likelihood import branch_log_likelihoods
from llgbm.deltas.packing import TokenTree, pack
from llgbm.deltas.sliding_window import layer_masks

TREES = [
    TokenTree(tuple(range(10, 19)), ((30, 31, 32), (40,))),
    TokenTree((5, 6), ((7, 8, 9, 10, 11, 12), (13, 14))),
]


@pytest.mark.parametrize("kind", ["gemma3", "mistral"])
@pytest.mark.parametrize("row_tokens", [None, 13, 40])
def test_packed_branches_score_as_alone_where_layers_look_back_few_tokens(
    make_tiny_model, kind, row_tokens
) -> None:
    types = {"layer_types": ["sliding_attention", "full_attention"]} if kind == "gemma3" else {}
    model = make_tiny_model(kind=kind, sliding_window=4, **types)
    with torch.no_grad():
        scores = branch_log_likelihoods(model, pack([TREES], row_tokens=row_tokens))
        alone = []
        for tree in TREES:
            for branch in tree.branches:
                ids = torch.tensor([[*tree.trunk, *branch]])
                told = model(input_ids=ids).logits[0].log_softmax(-1)[len(tree.trunk) - 1 : -1]
                alone.append(told.gather(1, torch.tensor(branch)[:, None]).sum())
    torch.testing.assert_close(scores, torch.stack(alone), atol=1e-5, rtol=1e-5)


def test_short_rows_and_models_without_a_window_keep_their_mask(make_tiny_model) -> None:
    batch = pack([TREES])
    llama, gemma = make_tiny_model(), make_tiny_model(kind="gemma3")
    assert layer_masks(llama, batch) is batch.attention_mask
    assert gemma.config.sliding_window > batch.input_ids.shape[1]
    assert layer_masks(gemma, batch) is batch.attention_mask
