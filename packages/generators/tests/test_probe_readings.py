"""KL on probes equals the plain one, token by token, one adapter and one probe at a time."""

import torch

from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.tokenizers import register_tokenizer
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation import probe_readings
from llgbm.generators.evaluation.probe_readings import ProbeReader

PROBES = ProbeSet(("a short one", "one that is quite a bit longer", "x"))


def test_kl_is_the_mean_over_all_real_tokens(
    make_tiny_model, tokenizer, tiny_spec, make_teachers, monkeypatch
) -> None:
    model = make_tiny_model()
    register_tokenizer(model, tokenizer)
    weights = make_teachers(tiny_spec, 3)
    monkeypatch.setattr(probe_readings, "POSITIONS_PER_HEAD", 20)  # several slices
    monkeypatch.setattr(probe_readings, "TOKENS_PER_FORWARD", 100)
    reader = ProbeReader(model, PROBES, DeltaSpec(aggregation="per_probe"))
    readings = reader.read(weights)
    with torch.no_grad():
        expected_delta = compute_delta(model, weights, PROBES, DeltaSpec(aggregation="per_probe"))
    torch.testing.assert_close(readings.deltas, expected_delta)
    found = reader.kl(readings.hidden[:2], readings.hidden)
    lora = FunctionalLoRA(model, tiny_spec)

    def log_probabilities(adapter: int) -> torch.Tensor:
        rows = []
        for text in PROBES.texts:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad(), lora.applied(weights.select([adapter])):
                rows.append(model(input_ids=ids).logits[0].log_softmax(-1))
        return torch.cat(rows)

    logs = [log_probabilities(adapter) for adapter in range(3)]
    expected = torch.tensor(
        [[float((p.exp() * (p - q)).sum(-1).mean()) for p in logs[:2]] for q in logs]
    )
    # Divergences of 1e-3 from logits in float32.
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-2)
    sums, tokens = reader.kl_by_probe(readings.hidden[0], readings.hidden)
    each = [
        [float((p.exp() * (p - q)).sum()) for p, q in zip(*parts, strict=True)]
        for parts in (
            [logs[row].split(tokens.tolist()) for row in (0, other)] for other in range(3)
        )
    ]
    torch.testing.assert_close(sums, torch.tensor(each), atol=1e-5, rtol=1e-2)
    torch.testing.assert_close(sums.sum(1) / tokens.sum(), found[:, 0], atol=1e-6, rtol=1e-4)
    assert float(found[0, 1]) > 1e-4
    assert float(found[0, 0]) == 0


def test_the_base_reads_as_no_delta(make_tiny_model, tokenizer, tiny_spec) -> None:
    model = make_tiny_model()
    register_tokenizer(model, tokenizer)
    found = ProbeReader(model, PROBES, DeltaSpec()).read(LoRAWeights.zeros(tiny_spec))
    assert not found.deltas.any()
