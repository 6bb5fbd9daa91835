from dataclasses import replace

import pytest
import torch

from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.evaluation.basis import fit_basis
from llgbm.latentwire.evaluation.derangement import other_contexts
from llgbm.latentwire.evaluation.rows import PARTS, ROWS, Setting
from llgbm.latentwire.evaluation.rows.pruned import surprisal
from llgbm.latentwire.evaluation.spans import candidate_spans
from llgbm.latentwire.examples import Example
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.slots import SlotsConfig

SHORT = DecodingConfig(max_new_tokens=3)


@pytest.fixture(scope="module")
def compressor(tiny_reader) -> Compressor:
    return Compressor(CompressorConfig(slots=SlotsConfig(ratio=2.0)), tiny_reader).eval()


@pytest.fixture(scope="module")
def setting(tiny_reader, examples, compressor) -> Setting:
    texts = tuple(example.context for example in examples)
    return Setting(
        tiny_reader, tuple(examples), compressor, training=texts,
        basis=fit_basis(tiny_reader, texts, 8), schemes={"halved": lambda row: row / 2},
    )  # fmt: skip


def config_of(part):
    return part(scheme="halved") if part.name == "unpacked" else part()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_no_row_depends_on_its_batch(setting, part) -> None:
    reader = setting.reader
    row = config_of(part).build(setting)
    golds = [reader.answer_tokens(each.answer) for each in setting.examples]
    together = row.prompts([2, 0, 3, 1])
    nll = together.score([golds[index] for index in (2, 0, 3, 1)])
    texts = together.write(SHORT).texts
    for place, index in enumerate((2, 0, 3, 1)):
        alone = row.prompts([index])
        assert alone.write(SHORT).texts == [texts[place]]
        assert alone.slots == [together.slots[place]]
        assert alone.lengths == [together.lengths[place]]
        # float32 sums in another order.
        torch.testing.assert_close(
            alone.score([golds[index]]).nll, nll.nll[nll.row == place], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    "name", ["budget_question_kept", "pruned", "random", "mean", "shuffled", "latent"]
)
def test_rows_of_a_budget_hold_exactly_m_slots(setting, compressor, name) -> None:
    prompts = ROWS[name]().build(setting).prompts(range(4))
    counts = compressor.counts([example.context for example in setting.examples]).tolist()
    assert prompts.slots == setting.budgets == counts
    opening = len(setting.reader.opening)
    ends = [len(ending) + opening for ending in setting.endings]
    assert prompts.lengths == [m + end for m, end in zip(counts, ends, strict=True)]


@pytest.mark.parametrize("name", ["budget_head", "budget_tail"])
def test_budgets_of_the_whole_prompt_keep_exactly_m_tokens(setting, name) -> None:
    prompts = ROWS[name]().build(setting).prompts(range(4))
    opening = len(setting.reader.opening)
    for ids, budget, context, ending in zip(
        prompts.ids, setting.budgets, setting.contexts, setting.endings, strict=True
    ):
        whole = [*context, *ending]
        assert len(ids) == budget + opening
        kept = ids[opening:]
        assert kept == (whole[:budget] if name == "budget_head" else whole[-budget:])


def test_the_pruner_keeps_the_most_surprising_tokens_in_their_order(setting) -> None:
    row = ROWS["pruned"]().build(setting)
    for index, context in enumerate(setting.contexts):
        told = surprisal(setting.reader, context).tolist()
        assert len(told) == len(context)
        least = sorted(told, reverse=True)[: setting.budgets[index]][-1]
        expected = [token for token, nats in zip(context, told, strict=True) if nats >= least]
        assert row.kept(index) == expected
        assert len(expected) == setting.budgets[index]


def test_surprisal_is_that_of_a_plain_forward(tiny_reader, examples) -> None:
    ids = tiny_reader.tokens(examples[0].context)
    assert not tiny_reader.opening
    logits = tiny_reader.model(input_ids=torch.tensor([ids])).logits[0, :-1]
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
    torch.testing.assert_close(surprisal(tiny_reader, ids)[1:], plain, atol=1e-4, rtol=1e-4)


def test_shuffled_never_gives_an_example_its_own_context_or_document(examples) -> None:
    many = [
        replace(examples[0], context=f"{title} {part}", title=title)
        for title, parts in (("a", 3), ("b", 1), ("c", 2), ("a", 3))
        for part in range(parts)
    ]
    title_of = {each.context: each.title for each in many}
    for seed in range(5):
        taken = other_contexts(many, seed)
        assert all(title_of[c] != each.title for each, c in zip(many, taken, strict=True))
        pairs = dict(zip([each.context for each in many], taken, strict=True))
        assert sorted(pairs.values()) == sorted(title_of)
        assert [pairs[each.context] for each in many] == taken


def test_shuffled_goes_on_where_one_document_is_most_of_the_set(examples) -> None:
    many = [replace(examples[0], context=f"a {part}", title="a") for part in range(4)]
    many.append(replace(examples[0], context="b", title="b"))
    taken = other_contexts(many)
    assert taken[:4] == ["b"] * 4
    assert taken[4].startswith("a")
    with pytest.raises(PromptError, match="at least 2 documents"):
        other_contexts(many[:4])


def test_shuffled_latents_are_those_of_the_other_text(setting, compressor) -> None:
    row = ROWS["shuffled"]().build(setting)
    with torch.no_grad():
        found = row.latents([0, 1, 2, 3])
        for index, context in enumerate(row.contexts):
            own = compressor.encode([context]).row(0)
            count = setting.budgets[index]
            expected = own.repeat(-(-count // len(own)), 1)[:count]
            torch.testing.assert_close(found.row(index), expected, atol=1e-5, rtol=1e-5)
            assert context != setting.examples[index].context


def test_mean_latents_are_the_mean_of_each_slot_over_the_training_texts(setting) -> None:
    row = ROWS["mean"](batch_size=3).build(setting)
    with torch.no_grad():
        each = [row.compressor.encode([text]).row(0) for text in setting.training]
        for slot in range(max(setting.budgets)):
            held = [latents[slot] for latents in each if len(latents) > slot]
            expected = torch.stack(held).mean(0)
            torch.testing.assert_close(row.mean[slot], expected, atol=1e-5, rtol=1e-5)


def test_a_scheme_changes_what_is_read(setting) -> None:
    latents = ROWS["latent"]().build(setting).latents([0, 1])
    row = ROWS["unpacked"](scheme="halved").build(setting)
    assert ROWS["unpacked"](scheme="halved").label == "unpacked_halved"
    torch.testing.assert_close(row.sent(latents).values, latents.values / 2)
    bad = replace(setting, schemes={"cut": lambda row: row[:1]})
    with pytest.raises(ConfigError, match="back"):
        ROWS["unpacked"](scheme="cut").build(bad).prompts([0])
    with pytest.raises(ConfigError, match="halved"):
        ROWS["unpacked"](scheme="int3").build(setting)


def test_a_whole_basis_replays_embeddings_and_a_small_one_loses_little(setting) -> None:
    reader = setting.reader
    texts = [example.context for example in setting.examples]
    embeds = reader.embed(torch.tensor(setting.contexts[0]))
    losses = []
    for components in (4, 16, 64):
        basis = fit_basis(reader, texts, components)
        products = basis.directions @ basis.directions.T
        torch.testing.assert_close(products, torch.eye(components), atol=1e-5, rtol=0)
        back = basis.restored(basis.projected(embeds))
        losses.append(float((back - embeds).square().mean()))
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 1e-10


def test_random_vectors_have_the_size_of_embeddings_and_differ_by_example(setting) -> None:
    row = ROWS["random"]().build(setting)
    drawn = [row.vectors(index) for index in range(4)]
    rms = float(torch.cat(drawn).square().mean().sqrt())
    assert rms == pytest.approx(setting.reader.embedding_rms, rel=0.1)
    assert not torch.equal(drawn[0][:2], drawn[1][:2])
    assert torch.equal(drawn[0], row.vectors(0))


def test_an_anchor_stands_around_the_context(setting) -> None:
    part = ROWS["replay_anchor"](before="Context:\n", after="\nThat is all.")
    prompts = part.build(setting).prompts([0])
    reader = setting.reader
    whole = reader.embed(torch.tensor([*reader.tokens("Context:\n"), *setting.contexts[0]]))
    assert torch.equal(prompts.prefix.embeds[0], whole)
    assert prompts.endings == [[*reader.tokens("\nThat is all."), *setting.endings[0]]]


def test_rows_say_what_they_lack(tiny_reader, examples) -> None:
    bare = Setting(tiny_reader, tuple(examples))
    for part in PARTS:
        if not part.bare and part.name != "unpacked":
            with pytest.raises(ConfigError, match="expected a compressor"):
                part().build(bare)
    with pytest.raises(ConfigError, match="basis"):
        ROWS["pca"]().build(bare)


def test_spans_are_short_and_look_like_names() -> None:
    text = "In 1903 the physicist Marie Curie won a prize, and the city of Paris was glad."
    spans = candidate_spans(text, words=3, limit=50)
    assert {"1903", "Marie Curie", "physicist Marie Curie", "city of Paris"} <= set(spans)
    assert all(len(span.split()) <= 3 for span in spans)
    assert not any(span.split()[0] in ("the", "of", "and") for span in spans)
    assert "prize and" not in spans
    assert candidate_spans(text, words=3, limit=2) == ["1903", "Marie"]


def test_extraction_chooses_the_likeliest_span(tiny_reader) -> None:
    example = Example("Anna met Ben in Rome.", "\nQuestion: Who?\nAnswer:", "Ben")
    setting = Setting(tiny_reader, (example,))
    row = ROWS["answer_extraction"](words=1).build(setting)
    prompts = row.prompts([0])
    spans = prompts.spans[0]
    assert {"Anna", "Ben", "Rome"} <= set(spans)
    text = ROWS["text"]().build(setting).prompts([0])
    chances = [
        sum(
            float((-text.score([[*answer, *end]]).nll.sum()).exp())
            for end in (tiny_reader.tokens("\n"), [tiny_reader.end])
        )
        for answer in (tiny_reader.answer_tokens(span, end=False) for span in spans)
    ]
    assert prompts.write(SHORT).texts == [spans[chances.index(max(chances))]]
