"""Numbers of a line of diagnostics, against plain computations."""

import json

import pytest
import torch

from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.diagnostics import (
    DiagnosticsConfig,
    diagnose,
    first_token_numbers,
    nearest_tokens,
    part_gradient_norms,
    part_of,
    term_gradient_norms,
)
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.answer import AnswerTermConfig
from llgbm.latentwire.losses.entropy import EntropyTermConfig
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.reconstruction import ReconstructionTermConfig
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.scoring import Scored
from llgbm.latentwire.ways.base import WAYS


@pytest.fixture
def compressor(tiny_reader):
    config = CompressorConfig(encoder=PretrainedEncoderConfig(r=4, lora_alpha=8.0))
    return Compressor(config, tiny_reader)


@pytest.fixture
def step(compressor, tiny_reader, examples):
    latents = compressor.encode([example.context for example in examples])
    return Step(compressor, tiny_reader, examples, latents, 3, 10)


def test_parts_are_found_by_name():
    assert part_of("encoder.lora_A.model/layers") == "encoder"
    assert part_of("port.parts.adapter.scale") == "adapter"
    assert part_of("port.marks.continue") == "marks"
    assert part_of("heads.terms.reconstruction.head.weight") == "reconstruction"


def test_part_norms_are_those_of_all_gradients_of_a_part(step):
    step.scored.nll.mean().backward()
    parameters = step.compressor.trained()
    norms = part_gradient_norms(parameters)
    flat = [p.grad.flatten() for name, p in parameters.items()
            if name.startswith("encoder") and p.grad is not None]  # fmt: skip
    assert norms["encoder"] == pytest.approx(float(torch.cat(flat).norm()), rel=1e-5)
    assert min(norms["encoder"], norms["pooler"], norms["adapter"]) > 0
    assert norms["marks"] == 0


def test_term_norms_are_those_of_each_term_alone_and_leave_the_graph(step):
    configs = [AnswerTermConfig(), EntropyTermConfig(weight=3.0), ReconstructionTermConfig()]
    objective = Objective(configs, step.compressor, step.reader)
    values, _ = objective.contributions(step)
    parameters = step.compressor.trained()
    norms = term_gradient_norms(values, parameters)
    assert all(parameter.grad is None for parameter in parameters.values())
    for name in ("answer", "reconstruction", "entropy"):
        step.compressor.zero_grad()
        values[name].backward(retain_graph=True)
        whole = torch.cat([p.grad.flatten() for p in parameters.values() if p.grad is not None])
        assert norms[name] == pytest.approx(float(whole.norm()), rel=1e-4)
    # Latents come before the adapter: its gradients are of the answer only.
    assert norms["reconstruction"] > 0


def test_margins_of_first_tokens():
    logits = torch.tensor([[1.0, 4.0, 2.0], [9.0, 9.0, 0.0], [5.0, 1.0, 0.0]])
    scored = Scored(
        logits, torch.tensor([1, 0, 2]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]),
        torch.zeros(3, 1),
    )  # fmt: skip
    found = first_token_numbers(scored)
    assert found["margin"] == pytest.approx((2.0 - 5.0) / 2)
    assert found["top_margin"] == pytest.approx((2.0 + 4.0) / 2)
    chances = logits[[0, 2]].softmax(-1)
    assert found["largest"] == pytest.approx(float(chances.amax(-1).mean()))
    assert found["nats"] == pytest.approx(float(-(chances * chances.log()).sum(-1).mean()))


def test_slots_that_are_embeddings_decode_to_their_tokens(tiny_reader):
    ids = tiny_reader.tokens(" Snow is white")
    embeds = 2.0 * tiny_reader.embed(torch.tensor([ids, ids])).float()
    mask = torch.ones(2, len(ids), dtype=torch.bool)
    mask[1, 1:] = False
    near = nearest_tokens(tiny_reader, embeds, mask, texts=2, slots=2)
    assert [(each.text, each.slot) for each in near] == [(0, 0), (0, 1), (1, 0)]
    assert [each.token for each in near] == [" Snow", " is", " Snow"]
    for each in near:
        assert each.cosine == pytest.approx(1, abs=1e-5)
        assert each.norm_ratio == pytest.approx(2, rel=1e-5)


def test_a_line_is_json_and_says_everything_asked(step):
    line = diagnose(
        step,
        DiagnosticsConfig(commonest=1, texts=2, slots=1),
        keep_probability=0.9,
        predictions=["a", "b", "a"],
        parts={"encoder": 1.0},
        terms={"answer": 2.0},
    )
    assert json.loads(json.dumps(line)) == line
    assert (line["step"], line["keep_probability"], line["commonest"]) == (3, 0.9, [["a", 2]])
    assert (line["part_gradient_norms"], line["term_gradient_norms"]) == (
        {"encoder": 1.0},
        {"answer": 2.0},
    )
    assert [slot["text"] for slot in line["slots"]] == [0, 1]


def test_without_predictions_the_first_tokens_are_counted(step):
    line = diagnose(step, DiagnosticsConfig(commonest=10))
    assert sum(count for _, count in line["commonest"]) == len(step.examples)
    assert "part_gradient_norms" not in line


def test_a_way_without_embeddings_has_no_slots_to_decode(tiny_reader, examples):
    encoder = PretrainedEncoderConfig(r=4, lora_alpha=8.0)
    config = CompressorConfig(encoder=encoder, way=WAYS["deep_prefix"]())
    compressor = Compressor(config, tiny_reader)
    latents = compressor.encode([example.context for example in examples])
    line = diagnose(Step(compressor, tiny_reader, examples, latents, 0, 10))
    assert "slots" not in line


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="commonest"):
        DiagnosticsConfig(commonest=0)
