"""Every combination of layers, pooling and aggregation, in the library and on the command line."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from llgbm.deltas.cli import CONSOLE
from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.tokenizers import tokenizer_of

PROBES = ProbeSet(("short", "a much longer probe text", "middle one"))
COMBINATIONS = list(product([(-1,), (0,), (1, -1)], ["last_token", "mean"], ["mean", "per_probe"]))


def plain_activation(model, spec: DeltaSpec) -> torch.Tensor:
    """What the spec says, text by text and layer by layer."""
    rows = []
    for text in PROBES.texts:
        ids = torch.tensor([tokenizer_of(model)(text)["input_ids"]])
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        chosen = [states[layer][0].float() for layer in spec.layers]
        last = spec.pooling == "last_token"
        rows.append(torch.stack([s[-1] if last else s.mean(0) for s in chosen]))
    values = torch.stack(rows)
    if spec.aggregation == "per_probe":
        return values
    return torch.cat([values[:, index].mean(0) for index in range(len(spec.layers))])


@pytest.mark.parametrize(("layers", "pooling", "aggregation"), COMBINATIONS)
@torch.no_grad()
def test_each_combination_equals_its_plain_computation(
    layers, pooling, aggregation, make_tiny_model, make_weights
) -> None:
    model = make_tiny_model()
    weights, spec = make_weights(model), DeltaSpec(layers, pooling, aggregation)
    base = plain_activation(model, spec)
    # float32 sums in another order, of values around 1.
    torch.testing.assert_close(
        compute_base_activation(model, PROBES, spec), base, atol=1e-5, rtol=0
    )
    deltas = compute_delta(model, weights, PROBES, spec)
    for index in range(weights.n):
        with FunctionalLoRA(model, weights.spec).applied(weights.select([index])):
            expected = plain_activation(model, spec) - base
        torch.testing.assert_close(deltas[index], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("layers", "pooling", "aggregation"), COMBINATIONS)
def test_each_combination_can_be_asked_for_on_the_command_line(
    layers, pooling, aggregation, saved_model, make_tiny_model, make_weights, tmp_path, capsys
) -> None:
    save_adapter(make_weights(make_tiny_model(), n=1), tmp_path / "in" / "a", str(saved_model))
    words = ["--deltas.layers", *map(str, layers), "--deltas.pooling", pooling]
    words += ["--deltas.aggregation", aggregation, "--probes", "math+code"]
    assert CONSOLE.run(["compute", str(tmp_path / "in"), "--out", str(tmp_path / "d"), *words]) == 0
    assert "1 computed" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert manifest["spec"] == {
        "layers": list(layers),
        "pooling": pooling,
        "aggregation": aggregation,
    }
    assert manifest["probes"] == "math+code"
    shape = (10, len(layers), 32) if aggregation == "per_probe" else (32 * len(layers),)
    assert np.load(tmp_path / "d" / "a.npy").shape == shape


def test_probes_beyond_the_context_are_one_line_on_the_command_line(
    saved_model, make_tiny_model, make_weights, tmp_path, capsys
) -> None:
    config = json.loads((saved_model / "config.json").read_text())
    (saved_model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 9}))
    save_adapter(make_weights(make_tiny_model(), n=1), tmp_path / "in" / "a", str(saved_model))
    assert CONSOLE.run(["compute", str(tmp_path / "in")]) == 2
    said = capsys.readouterr().err.strip()
    assert "expected at most 9 tokens, the context of the model" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "in" / "deltas").exists()
