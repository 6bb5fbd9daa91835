import pytest
import torch

from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.losses.step import Step


@pytest.fixture(scope="session")
def compressor_of(tiny_reader):
    """Builds a compressor with small parts, moved a little from its start."""

    def build(**parts):
        encoder = PretrainedEncoderConfig(r=4, lora_alpha=8.0)
        compressor = Compressor(CompressorConfig(encoder=encoder, **parts), tiny_reader)
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in compressor.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        return compressor

    return build


@pytest.fixture
def compressor(compressor_of):
    return compressor_of()


@pytest.fixture(scope="session")
def step_of(tiny_reader):
    """Builds a step of a training of 10."""

    def build(compressor, examples, number=0):
        latents = compressor.encode([example.context for example in examples])
        return Step(compressor, tiny_reader, examples, latents, number, 10)

    return build


@pytest.fixture
def step(step_of, compressor, examples):
    return step_of(compressor, examples)


@pytest.fixture(scope="session")
def built():
    """Builds a term, its head from the same seed every time."""

    def build(config, step):
        torch.manual_seed(0)
        return config.build(step.compressor, step.reader)

    return build


@pytest.fixture(scope="session")
def first_rows():
    """Finds where answers begin, by walking over the rows."""

    def find(scored):
        row = scored.row.tolist()
        return [i for i in range(len(row)) if i == 0 or row[i] != row[i - 1]]

    return find
