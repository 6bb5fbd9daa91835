"""A compressor learns: key-value retrieval by a tiny reader that never sees the pairs as text."""

import pytest

from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.training.tiny_reader import TinyReaderConfig, teach_tiny_reader

WORDS = (
    "stages=[{name='questions', data={name='key_value', pairs=6}, steps=150, batch_size=32, "
    "lr=2e-3}]",
    "compressor.encoder.tuning=full",
    "compressor.slots.ratio=2",
    "validate_every=50",
    "diagnose_every=0",
)


@pytest.fixture(scope="module")
def reader():
    found, accuracy = teach_tiny_reader(TinyReaderConfig(pairs=6, steps=300))
    assert accuracy > 0.97
    return found


def test_latents_beat_the_token_budget_and_shuffled_latents(reader, tmp_path) -> None:
    config = read_config("recipe", WORDS)
    compressor = CompressorTraining(config, reader, tmp_path).fit()
    source = config.stages[-1].data.open(config.seed)
    names = ["text", "no_context", "budget_question_kept", "shuffled", "latent"]
    found = evaluate(reader, compressor, source.questions("test")[:200], rows_by_name(names))
    em = {name: row.em for name, row in found.rows.items()}
    assert em["text"] > 0.97
    assert em["no_context"] < 0.25
    assert em["shuffled"] < 0.25
    assert em["latent"] > 0.6
    # Half as many vectors as tokens hold more pairs than half of the tokens do.
    assert found.differences["budget_question_kept"]["latent"].low > 0
