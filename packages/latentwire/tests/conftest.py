import os

os.environ["HF_HUB_OFFLINE"] = "1"

from copy import deepcopy

import pytest
import torch

from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.data.key_value import character_tokenizer
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.examples import Example
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.scoring import score


@pytest.fixture(scope="session")
def tiny_reader() -> Reader:
    """A random reader of 3 layers and width 64, in float32, with the packaged tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, tie_word_embeddings=True,
        initializer_range=0.1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return Reader(model, load_reader(device="cpu").tokenizer, "tiny")


@pytest.fixture(scope="session")
def other_reader() -> Reader:
    """A random reader of another tokenizer and width than `tiny_reader`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer()
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    return Reader(LlamaForCausalLM(config).eval().requires_grad_(False), tokenizer, "other")


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Four questions of unlike length."""
    return [
        Example("Anna lives in a house by the sea.", "\nQuestion: Where?\nAnswer:", "by the sea"),
        Example("Ben has two dogs and a cat.", "\nQuestion: How many dogs?\nAnswer:", "two"),
        Example("Snow is white.", "\nQuestion: What is white?\nAnswer:", "Snow"),
        Example("The train to Rome left at ten.", "\nQuestion: To where?\nAnswer:", "Rome"),
    ]


@pytest.fixture(scope="session")
def texts(examples) -> list[str]:
    """The questions' contexts."""
    return [example.context for example in examples]


@pytest.fixture(scope="session")
def asked(tiny_reader, examples) -> tuple[list[list[int]], list[list[int]]]:
    """Endings and answers of the questions as token ids."""
    endings = [tiny_reader.tokens(example.ending) for example in examples]
    return endings, [tiny_reader.answer_tokens(example.answer) for example in examples]


@pytest.fixture(scope="session")
def made():
    """What makes a compressor with a way; stirred, so that nothing is zero or near its start."""

    def make(reader: Reader, way, stirred: bool = True) -> Compressor:
        config = CompressorConfig(encoder=PretrainedEncoderConfig(tuning="frozen"), way=way)
        compressor = Compressor(config, reader)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in compressor.port.way.parameters():
                parameter += stirred * 0.3 * torch.randn(parameter.shape, generator=draw)
        return compressor

    return make


@pytest.fixture(scope="session")
def teach():
    """What makes of a random reader a copy that knows a little of some answers."""

    def taught(reader: Reader, examples, steps: int = 6) -> Reader:
        pupil = Reader(deepcopy(reader.model), reader.tokenizer, "tiny")
        pupil.model.requires_grad_(True)
        optimiser = torch.optim.Adam(pupil.model.parameters(), lr=3e-3)
        contexts = [reader.tokens(each.context) for each in examples]
        endings = [reader.tokens(each.ending) for each in examples]
        answers = [reader.answer_tokens(each.answer) for each in examples]
        for _ in range(steps):
            optimiser.zero_grad()
            score(pupil, replayed(pupil, contexts), endings, answers).nll.mean().backward()
            optimiser.step()
        pupil.model.requires_grad_(False)
        return pupil

    return taught


@pytest.fixture(scope="session")
def model_of():
    """What makes a random reader of another family, in float32: `model_of(kind, **config)`."""

    def made(kind: str, **more) -> Reader:
        from transformers import AutoModelForCausalLM
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        torch.manual_seed(0)
        config = CONFIG_MAPPING[kind](
            vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
            bos_token_id=1, eos_token_id=2, pad_token_id=2, **more,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return Reader(model.eval().requires_grad_(False), load_reader(device="cpu").tokenizer, kind)

    return made


@pytest.fixture(scope="session")
def parts_of():
    """What scoring takes of examples: replayed contexts, endings, answers."""

    def parts(reader: Reader, examples):
        return (
            replayed(reader, [reader.tokens(example.context) for example in examples]),
            [reader.tokens(example.ending) for example in examples],
            [reader.answer_tokens(example.answer) for example in examples],
        )

    return parts
