"""Rules 1 to 13 of a correct prompt compressor (prompts, parts), named after the rule."""

import json
from dataclasses import replace
from random import Random

import pytest
import torch

from llgbm.deltas.errors import RunError
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.config_tree import as_tree
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.evaluation.rows import ROWS
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.prefix import Prefix, from_keys_values
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.rows import IGNORED, build_rows
from llgbm.latentwire.scoring import decode, score
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.files import RunFiles, load_compressor
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.ways.lora import LoRAWayConfig

SMOKE = ("compressor.encoder.name=embeddings", "compressor.slots.largest=32")


@pytest.fixture
def compressor(tiny_reader) -> Compressor:
    return Compressor(CompressorConfig(SlotsConfig(ratio=2)), tiny_reader)


def test_rule_01_labels_of_padding_are_ignored_and_its_attention_is_0(
    tiny_reader, examples, parts_of
) -> None:
    rows = build_rows(tiny_reader, *parts_of(tiny_reader, examples))
    assert not rows.mask.all()
    assert (rows.labels[~rows.mask] == IGNORED).all()
    changed = torch.where(rows.mask[..., None], rows.embeds, torch.tensor(9.0))
    states = [
        decode(tiny_reader, each, rows.mask).last_hidden_state for each in (rows.embeds, changed)
    ]
    torch.testing.assert_close(states[0][rows.mask], states[1][rows.mask])


def test_rule_02_the_end_token_is_learned_even_where_it_also_pads(
    tiny_reader, examples, parts_of
) -> None:
    assert tiny_reader.pad == tiny_reader.end
    rows = build_rows(tiny_reader, *parts_of(tiny_reader, examples))
    for row in range(len(examples)):
        wanted = rows.labels[row][rows.labels[row] != IGNORED]
        assert wanted[-1] == tiny_reader.end
        assert len(wanted) == len(tiny_reader.answer_tokens(examples[row].answer))


def test_rule_03_embeddings_always_come_with_a_mask(
    tiny_reader, examples, monkeypatch, parts_of
) -> None:
    body, seen = tiny_reader.model.get_decoder(), []
    forward = body.forward

    def watched(**arguments):
        seen.append(arguments)
        return forward(**arguments)

    monkeypatch.setattr(body, "forward", watched)
    prefix, endings, answers = parts_of(tiny_reader, examples)
    score(tiny_reader, prefix, endings, answers)
    write(tiny_reader, prefix, endings, DecodingConfig(max_new_tokens=3))
    assert len(seen) >= 3
    assert all(call["attention_mask"] is not None for call in seen)


def test_rule_04_writing_returns_new_tokens_only(tiny_reader, examples, parts_of) -> None:
    prefix, endings, _ = parts_of(tiny_reader, examples)
    ids = torch.tensor([tiny_reader.tokens(examples[0].context) + endings[0]])
    expected = tiny_reader.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False,
        pad_token_id=tiny_reader.pad,
    )[0, ids.shape[1] :].tolist()  # fmt: skip
    written = write(tiny_reader, prefix, endings, DecodingConfig(max_new_tokens=5)).tokens[0]
    assert written == expected[: len(written)]
    assert 1 <= len(written) <= 5


def test_rule_05_training_and_evaluation_lay_a_prompt_out_alike(
    tiny_reader, examples, parts_of
) -> None:
    prefix, endings, answers = parts_of(tiny_reader, examples)
    trained = build_rows(tiny_reader, prefix, endings, answers)
    asked = build_rows(tiny_reader, prefix, endings, padding_side="left")
    for row in range(len(examples)):
        whole = trained.embeds[row][trained.mask[row]]
        prompt = asked.embeds[row][asked.mask[row]]
        torch.testing.assert_close(whole[: len(prompt)], prompt, atol=0, rtol=0)
        assert len(whole) == len(prompt) + len(answers[row])
    # What a tokenizer puts before a text stands once, at the very start.
    assert list(tiny_reader.opening) == tiny_reader.tokenizer("")["input_ids"]
    assert (
        tiny_reader.tokens("a") == tiny_reader.tokenizer("a", add_special_tokens=False)["input_ids"]
    )


def test_rule_05_a_training_and_its_evaluation_read_the_same_prompt(
    tiny_reader, examples, tmp_path
) -> None:
    # A reader that puts a token before every text, as those with a BOS do.
    reader = Reader(tiny_reader.model, tiny_reader.tokenizer, "with an opening")
    reader.__dict__["opening"] = (1,)
    config = read_config("smoke", (*SMOKE, "stages.0.keep=1.0"))
    training = CompressorTraining(config, reader, tmp_path)
    stage, one = config.stages[0], [examples[0]]
    read = []

    def keep(module, args, given) -> None:
        if "inputs_embeds" not in given:  # text, which is no latents
            return
        read.append(given["inputs_embeds"][0][given["attention_mask"][0].bool()].detach())

    hook = reader.model.get_decoder().register_forward_pre_hook(keep, with_kwargs=True)
    training._losses(stage, one, training._objective(stage), Random(0))
    trained = read[-1]
    read.clear()
    training.compressor.eval()
    rows = rows_by_name(["latent"])
    evaluate(reader, training.compressor, one, rows, DecodingConfig(max_new_tokens=1))
    hook.remove()
    asked = [each for each in read if len(each) > 1]
    assert len(asked) == 2  # it writes, and it scores the gold answer
    answer = reader.answer_tokens(examples[0].answer)
    for prompt in asked:
        shared = min(len(prompt), len(trained))
        assert shared >= len(trained) - len(answer)
        torch.testing.assert_close(prompt[:shared], trained[:shared], atol=1e-6, rtol=0)
    beginnings = [torch.equal(each[0], reader.embed(torch.tensor(1))) for each in (trained, *asked)]
    again = [torch.equal(each[1], reader.embed(torch.tensor(1))) for each in (trained, *asked)]
    assert all(beginnings)
    assert not any(again)


def test_rule_06_the_encoder_sees_the_context_alone(tiny_reader, tmp_path) -> None:
    config = read_config("smoke", SMOKE)
    training, read = CompressorTraining(config, tiny_reader, tmp_path), []
    hook = lambda _, given: read.extend(given[0])  # noqa: E731
    training.compressor.encoder.register_forward_pre_hook(hook)
    training.fit()
    trained = set(read)
    source = config.stages[0].data.open(config.seed)
    assert trained
    assert trained <= {*source.texts(), *(each.context for each in source.questions("validation"))}
    read.clear()
    asked = source.questions("validation")[:4]
    rows = rows_by_name(["no_context", "latent"])
    evaluate(tiny_reader, training.compressor, asked, rows, DecodingConfig(max_new_tokens=1))
    assert set(read) == {example.context for example in asked}


@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_rule_07_the_first_gold_token_aligns_at_the_first_step(name) -> None:
    from llgbm.deltas.errors import MissingPackageError

    try:
        reader = load_reader(name, dtype=torch.float32, device="cpu")
    except MissingPackageError:
        pytest.skip(f"{name} is not installed")
    for question in load_squad("test"):
        ending = reader.tokens(question.ending)
        answer = reader.answer_tokens(question.answers[0], end=False)
        joint = reader.tokens(f"{question.ending} {question.answers[0].strip()}")
        assert joint[: len(ending)] == ending
        assert joint[len(ending)] == answer[0]


def test_rule_08_the_teacher_is_the_bare_reader(tiny_reader, examples, parts_of) -> None:
    config = CompressorConfig(SlotsConfig(ratio=2), way=LoRAWayConfig())
    compressor = Compressor(config, tiny_reader)
    with torch.no_grad():
        for name, each in compressor.named_parameters():
            if "lora_B" in name:
                each.normal_()
    latents = compressor.encode([example.context for example in examples])
    step = Step(compressor, tiny_reader, examples, latents, 0, 1)
    step.scored  # noqa: B018 - the adapter is on and off again
    with torch.no_grad():
        bare = score(tiny_reader, *parts_of(tiny_reader, examples))
    torch.testing.assert_close(step.taught.logits, bare.logits, atol=0, rtol=0)
    assert not torch.allclose(step.scored.logits, bare.logits)


def test_rule_09_rows_of_the_bare_reader_run_before_an_adapter_attaches(
    tiny_reader, examples, monkeypatch
) -> None:
    config = CompressorConfig(SlotsConfig(ratio=2), way=LoRAWayConfig())
    compressor, order = Compressor(config, tiny_reader), []
    for name in ("latent", "no_context", "budget_question_kept"):
        build = ROWS[name].build

        def noted(self, setting, name=name, build=build):
            order.append(name)
            return build(self, setting)

        monkeypatch.setattr(ROWS[name], "build", noted)
    evaluate(
        tiny_reader,
        compressor,
        examples,
        rows_by_name(["latent", "no_context", "budget_question_kept"]),
        DecodingConfig(max_new_tokens=2),
    )
    assert order[-1] == "latent"


def test_rule_10_a_checkpoint_is_whole_and_its_counts_are_checked(tiny_reader, tmp_path) -> None:
    config = read_config("smoke", (*SMOKE, "compressor.way.name=lora"))
    trained = CompressorTraining(config, tiny_reader, tmp_path).fit()
    found, _ = load_compressor(tmp_path, tiny_reader)
    assert any("lora_B" in name for name in found.trained())
    for name, each in trained.state_dict().items():
        assert torch.equal(each, found.state_dict()[name])
    file = RunFiles(tmp_path).compressor / "config.json"
    content = json.loads(file.read_text())
    content["metadata"]["trained"] -= 1
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match="trained tensors"):
        load_compressor(tmp_path, tiny_reader)


def test_rule_11_one_prefix_mechanism_at_a_time(tiny_reader) -> None:
    shape = (1, tiny_reader.kv_heads, 2, tiny_reader.head_dim)
    pairs = tuple((torch.zeros(shape), torch.zeros(shape)) for _ in range(tiny_reader.layers))
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="got both"):
        Prefix(torch.zeros(1, 2, tiny_reader.width), mask, pairs, mask)
    tree = as_tree(read_config("smoke", SMOKE))
    assert isinstance(tree["compressor"]["way"], dict)
    with pytest.raises(ConfigError, match=r"way: expected a part's name or table"):
        read_config("smoke", ("compressor.way=['deep_prefix', 'embeddings']",))


def test_rule_12_is_tested_for_every_part_and_a_part_that_no_loss_reads_stops_a_run(
    tiny_reader, tmp_path
) -> None:
    config = read_config("smoke", (*SMOKE, "stages.0.steps=30", "diagnose_every=0"))
    stage = replace(config.stages[0], steps=30)
    training = CompressorTraining(replace(config, stages=(stage,)), tiny_reader, tmp_path)
    training.compressor.register_parameter("unread", torch.nn.Parameter(torch.ones(3)))
    with pytest.raises(RunError, match="no loss moves unread"):
        training.fit()


def test_rule_13_keys_and_values_fit_the_reader_and_labels_skip_the_prefix(
    tiny_reader, examples, parts_of
) -> None:
    mask = torch.ones(4, 2, dtype=torch.bool)
    shape = (4, tiny_reader.kv_heads, 2, tiny_reader.head_dim)
    pairs = tuple((torch.randn(shape), torch.randn(shape)) for _ in range(tiny_reader.layers))
    prefix = from_keys_values(tiny_reader, pairs, mask)
    _, endings, answers = parts_of(tiny_reader, examples)
    found = score(tiny_reader, prefix, endings, answers)
    assert found.targets.tolist() == [token for answer in answers for token in answer]
    wrong = tuple((torch.randn(4, 3, 2, 16), torch.randn(4, 3, 2, 16)) for _ in pairs)
    with pytest.raises(ValueError, match="layer 0: expected"):
        from_keys_values(tiny_reader, wrong, mask)
    with pytest.raises(ValueError, match="expected 3 layers, got 2"):
        from_keys_values(tiny_reader, pairs[:2], mask)
