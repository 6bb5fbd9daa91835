"""Every registered part, by its smoke config: trained, read, the same in any batch."""

from dataclasses import replace

import pytest
import torch

from llgbm.latentwire.commands.train import packaged_configs, read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.config_tree import as_tree, structure
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.examples import MARKS
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.scoring import score
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.config import TrainConfig

SMOKES = sorted(name for name in packaged_configs() if name.startswith("smoke/"))
COMPRESSORS = [name for name in SMOKES if not name.startswith("smoke/loss_")]


def compressor_of(name, reader) -> Compressor:
    config = replace(read_config(name).compressor, slots=SlotsConfig(ratio=2, largest=32))
    compressor = Compressor(config, reader)
    compressor.fit([question.context[:300] for question in load_squad("train")[:3]])
    return compressor


def test_every_part_has_a_smoke_config() -> None:
    kinds = {"encoder", "pooler", "adapter", "transform", "calibration", "way", "refiner"}
    kinds |= {"bottleneck"}
    hints = CompressorConfig.__dataclass_fields__
    wanted = {
        f"smoke/{kind}_{part}"
        for kind in kinds
        for part in hints[kind].metadata["registry"]
        if part != "none"
    }
    wanted |= {
        f"smoke/loss_{part}"
        for part in TrainConfig().stages[0].__dataclass_fields__["losses"].metadata["registry"]
    }
    assert wanted == set(SMOKES)


@pytest.mark.parametrize("name", SMOKES)
def test_a_config_survives_its_tree(name) -> None:
    config = read_config(name)
    assert structure(TrainConfig, as_tree(config)) == config


@pytest.mark.parametrize("name", SMOKES)
def test_rule_12_every_trained_tensor_gets_a_gradient_and_is_saved(
    name, tiny_reader, examples
) -> None:
    compressor = compressor_of(name, tiny_reader)
    objective = Objective(read_config(name).stages[-1].losses, compressor, tiny_reader)
    parameters = {**compressor.trained(), **dict(objective.named_parameters())}
    # A LoRA's A moves once its B has: small B stand in for the first step.
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in parameters.values():
            if not parameter.any():
                parameter.normal_(std=0.02)
    compressor.train()
    latents = compressor.encode([example.context for example in examples])
    values, _ = objective.contributions(Step(compressor, tiny_reader, examples, latents, 1, 4))
    torch.stack(list(values.values())).sum().backward()
    silent = [
        key
        for key, each in parameters.items()
        if ".marks." not in key and (each.grad is None or not each.grad.any())
    ]
    assert not silent
    assert set(compressor.trained()) <= set(compressor.state_dict())


@pytest.mark.parametrize("mark", MARKS)
def test_rule_12_a_mark_is_trained_by_examples_of_its_kind_alone(
    mark, tiny_reader, examples
) -> None:
    compressor = compressor_of("smoke/encoder_embeddings", tiny_reader)
    asked = [replace(example, mark=mark, ending="") for example in examples]
    objective = Objective(read_config("smoke").stages[-1].losses, compressor, tiny_reader)
    latents = compressor.encode([example.context for example in asked])
    loss, _ = objective(Step(compressor, tiny_reader, asked, latents, 0, 1))
    loss.backward()
    moved = {
        name for name in MARKS if (grad := compressor.port.marks[name].grad) is not None
        and grad.any()
    }  # fmt: skip
    assert moved == {mark}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_an_answer_does_not_depend_on_the_batch_and_evaluation_is_deterministic(
    name, tiny_reader, examples
) -> None:
    compressor = compressor_of(name, tiny_reader).eval()
    endings = [tiny_reader.tokens(example.ending) for example in examples]
    answers = [tiny_reader.answer_tokens(example.answer) for example in examples]

    def scores(rows) -> torch.Tensor:
        latents = compressor.encode([examples[row].context for row in rows])
        with compressor.attached(latents):
            found = score(
                tiny_reader,
                compressor.prefix(latents),
                [endings[row] for row in rows],
                [answers[row] for row in rows],
            )
        return torch.stack([found.nll[found.row == place].sum() for place in range(len(rows))])

    with torch.no_grad():
        together = scores([0, 1, 2, 3])
        torch.testing.assert_close(scores([0, 1, 2, 3]), together, atol=0, rtol=0)
        alone = torch.cat([scores([row]) for row in range(4)])
    # Float32 sums in another order; logits of a random reader are large.
    torch.testing.assert_close(alone, together, atol=2e-3, rtol=2e-4)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_what_stands_at_masked_slots_is_never_read(name, tiny_reader, examples) -> None:
    compressor = compressor_of(name, tiny_reader).eval()
    endings = [tiny_reader.tokens(example.ending) for example in examples]
    answers = [tiny_reader.answer_tokens(example.answer) for example in examples]
    with torch.no_grad():
        latents = compressor.encode([example.context for example in examples])
        assert not latents.mask.all()
        noise = torch.where(latents.mask[..., None], latents.values, 7.0)
        losses = []
        for each in (latents, Latents(noise, latents.mask)):
            with compressor.attached(each):
                found = score(tiny_reader, compressor.prefix(each), endings, answers)
            losses.append(found.nll)
    torch.testing.assert_close(losses[0], losses[1], atol=2e-3, rtol=2e-4)
