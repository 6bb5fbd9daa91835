"""Rule 7: the first gold token stands where the ending stops, for every tokenizer and source."""

import pytest

from llgbm.deltas.errors import MissingPackageError
from llgbm.latentwire.alignment import check_alignment
from llgbm.latentwire.data.pretraining import PretrainingConfig, pretraining_batch
from llgbm.latentwire.data.reading import load_reading, reading_batch
from llgbm.latentwire.data.squad import SPLITS, load_squad
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.prefix import empty_prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rows import IGNORED, build_rows


class Pairs:
    """A tokenizer of pairs of characters: what a token is hangs on all that stands before."""

    eos_token_id = 2

    def __call__(self, text, add_special_tokens=True):
        places = range(0, len(text), 2)
        return {"input_ids": [int.from_bytes(text[i : i + 2].encode()) for i in places]}


def test_rule_07_an_answer_that_a_tokenizer_joins_to_its_ending_is_refused(tiny_reader) -> None:
    reader = Reader(tiny_reader.model, Pairs(), "pairs")
    even, odd = (Example("a b c", ending, "white") for ending in ("Say: ", "Say:  "))
    check_alignment(tiny_reader, [even, odd])
    check_alignment(reader, [odd])
    with pytest.raises(PromptError, match="pairs: example 2: expected the answer 'white' to begin"):
        check_alignment(reader, [odd, even])


@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_rule_07_every_answer_of_the_packaged_questions_aligns(name, tiny_reader) -> None:
    reader = Reader(tiny_reader.model, tokenizer_named(name), name)
    for split in SPLITS:
        check_alignment(reader, [question.example for question in load_squad(split)])
    passages = [question.context for question in load_squad("train")]
    for step in range(8):
        batch = pretraining_batch(passages, PretrainingConfig(), 4, step, 0)
        check_alignment(reader, batch)
    questions = reading_batch(load_reading(), 120, 20, 400, 0, 0)
    check_alignment(reader, questions)
    example = load_squad("test")[0].example
    ending, gold = reader.tokens(example.ending), reader.answer_tokens(example.answer)
    if max(ending + gold) < tiny_reader.vocabulary:
        rows = build_rows(reader, empty_prefix(reader, 1), [ending], [gold])
        place = int((rows.labels[0] != IGNORED).nonzero()[0])
        assert place == len(reader.opening) + len(ending)
        assert int(rows.labels[0, place]) == gold[0]


def tokenizer_named(name):
    """A packaged model's tokenizer, without its weights in memory."""
    from llgbm.deltas.base_models import load_tokenizer
    from llgbm.deltas.gemma3_chunks import gemma3_gguf
    from llgbm.deltas.gguf_conversion import converted_gguf
    from llgbm.deltas.packaged import smollm2_gguf

    try:
        file = {"smollm2-135m": smollm2_gguf, "gemma3-270m": gemma3_gguf}[name]()
    except MissingPackageError:
        pytest.skip(f"{name} is not installed")
    return load_tokenizer(name, str(converted_gguf(file)))
