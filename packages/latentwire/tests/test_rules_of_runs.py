"""Rules 14 to 22 of a correct prompt compressor (runs, measuring), named after the rule."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from llgbm.latentwire.collapse import CollapseDetector, CollapseError
from llgbm.latentwire.commands.evaluate import ROW_NAMES
from llgbm.latentwire.commands.report import ReportConfig, report
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.generation import DecodingConfig
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.metrics import exact_match, f1_score
from llgbm.latentwire.prefix import empty_prefix
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.scoring import score
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.files import RunFiles
from llgbm.latentwire.training.loop import CompressorTraining

SMOKE = ("compressor.encoder.name=embeddings", "compressor.slots.largest=32")


@pytest.fixture
def compressor(tiny_reader) -> Compressor:
    return Compressor(CompressorConfig(SlotsConfig(ratio=2)), tiny_reader)


def test_rule_14_the_best_step_is_chosen_by_a_smoothed_metric(
    tiny_reader, tmp_path, monkeypatch
) -> None:
    config = read_config("smoke", (*SMOKE, "stages.0.steps=8", "smoothing=0.5", "save_every=100"))
    CompressorTraining(config, tiny_reader, tmp_path).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if line["split"] == "validation"]
    smooth = seen[0]["nll"]
    for line in seen:
        smooth = 0.5 * smooth + 0.5 * line["nll"]
        assert line["smoothed"] == pytest.approx(smooth)
    best = min(seen[1:], key=lambda line: line["smoothed"])
    content = json.loads((RunFiles(tmp_path).compressor / "config.json").read_text())
    if best["smoothed"] < seen[0]["smoothed"]:
        assert content["metadata"]["step"] == best["step"]
    else:
        assert content["metadata"]["step"] == 0


def test_rule_15_training_also_sees_latents_of_which_nothing_was_dropped(
    tiny_reader, tmp_path
) -> None:
    config = read_config("smoke", (*SMOKE, "stages.0.steps=12", "stages.0.keep=0.3"))
    CompressorTraining(config, tiny_reader, tmp_path).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    kept = [line["keep"] for line in lines if line["split"] == "train"]
    assert kept.count(1.0) >= 3
    assert sum(each < 1.0 for each in kept) >= 3
    assert all(0.3 <= each <= 1.0 for each in kept)


def test_rule_16_auxiliary_terms_anneal_and_what_they_add_is_logged(
    compressor, tiny_reader, examples
) -> None:
    config = read_config(
        "smoke",
        (
            "stages.0.losses=[{name='answer'}, {name='reconstruction', weight=2.0, "
            "schedule={shape='linear', start_value=1.0, end_value=0.0}}]",
        ),
    )
    objective = Objective(config.stages[0].losses, compressor, tiny_reader)
    latents = compressor.encode([example.context for example in examples])
    for number, factor in ((0, 2.0), (5, 1.0), (9, 0.2)):
        step = Step(compressor, tiny_reader, examples, latents, number, 10)
        loss, log = objective(step)
        term = log["loss/reconstruction"]
        assert log["weighted/reconstruction"] == pytest.approx(factor * term, rel=1e-5)
        total = log["weighted/answer"] + log["weighted/reconstruction"]
        assert float(loss.detach()) == pytest.approx(total, rel=1e-5)


def test_rule_17_latents_start_at_the_size_of_embeddings_in_float32(tiny_reader) -> None:
    reader = replace(tiny_reader, model=tiny_reader.model, name="copy")
    texts = [question.context for question in load_squad("validation")[:2]]
    for encoder in (PretrainedEncoderConfig(), "byte", "embeddings"):
        if isinstance(encoder, str):
            config = read_config("smoke", (f"compressor.encoder.name={encoder}",)).compressor
        else:
            config = CompressorConfig(encoder=encoder)
        compressor = Compressor(replace(config, slots=SlotsConfig(ratio=1)), reader)
        with torch.no_grad():
            latents = compressor.encode([text[:200] for text in texts])
            embeds = compressor.port.embeds(latents)
        assert latents.values.dtype == torch.float32
        rms = float(embeds[latents.mask].square().mean().sqrt())
        assert rms == pytest.approx(reader.embedding_rms, rel=0.25), config.encoder.name


def test_rule_18_pca_is_fitted_on_the_whole_training_split(tiny_reader, tmp_path) -> None:
    config = read_config("smoke/pooler_pca", ("compressor.encoder.name=embeddings",))
    training = CompressorTraining(config, tiny_reader, tmp_path)
    source = config.stages[0].data.open(config.seed)
    training.fit()
    texts = source.texts()
    counted = sum(len(tiny_reader.tokens(text)) for text in texts)
    assert len(texts) > config.stages[0].batch_size
    assert int(training.compressor.pooler.positions) == counted


def test_rule_19_f1_and_em_are_squads() -> None:
    assert exact_match("The  Eiffel-Tower!", ["eiffeltower"]) == 1.0
    assert f1_score("a red house", ["the house", "red house by the sea"]) == pytest.approx(2 / 3)
    assert f1_score("", ["house"]) == 0.0
    assert f1_score("red", ["blue", "red"]) == 1.0


def test_rule_20_the_token_budget_and_embedding_replay_are_in_the_table(
    tiny_reader, teach, examples
) -> None:
    wanted = {"text", "no_context", "budget_question_kept", "replay_raw", "shuffled"}
    assert wanted <= set(ROW_NAMES)
    reader = teach(tiny_reader, examples)
    compressor = Compressor(CompressorConfig(SlotsConfig(ratio=3)), reader)
    rows = rows_by_name(["text", "budget_question_kept", "replay_raw", "latent"])
    found = evaluate(reader, compressor, examples, rows, DecodingConfig(max_new_tokens=4))
    # As many tokens as there are latents, text by text.
    assert found.rows["budget_question_kept"].slots == found.rows["latent"].slots
    assert found.rows["latent"].slots < found.rows["text"].slots / 2
    said = {
        row: [answer.answer for answer in found.answers if answer.row == row]
        for row in ("text", "replay_raw")
    }
    assert said["replay_raw"] == said["text"]
    assert found.rows["replay_raw"].nll == pytest.approx(found.rows["text"].nll, abs=1e-6)


def test_rule_21_a_file_of_a_run_is_its_own_and_claimed_only_if_it_exists(
    tiny_reader, tmp_path
) -> None:
    for run, words in {"one": ("seed=1",), "two": ("seed=2",), "none": ()}.items():
        every = 0 if run == "none" else 1
        config = read_config("smoke", (*SMOKE, f"diagnose_every={every}", *words))
        CompressorTraining(config, tiny_reader, tmp_path / run).fit()
    looks = [(tmp_path / run / "diagnostics.jsonl").read_text() for run in ("one", "two")]
    assert looks[0] != looks[1]
    for look in looks:
        steps = [json.loads(line)["step"] for line in look.splitlines()]
        assert steps == list(range(1, config.stages[0].steps + 1))
    assert not (tmp_path / "none" / "diagnostics.jsonl").exists()
    pages = [report(ReportConfig(tmp_path / run)).read_text() for run in ("one", "none")]
    assert ["Diagnostics</h2>" in page for page in pages] == [True, False]


def test_rule_22_collapsed_answers_are_detected_and_can_stop_a_run() -> None:
    golds = [f"answer {number}" for number in range(10)]
    CollapseDetector().require_health(golds, golds)
    with pytest.raises(CollapseError, match="commonest answer"):
        CollapseDetector().require_health(["2019) 1. The answer is"] * 10, golds)
    with pytest.raises(CollapseError, match="empty"):
        CollapseDetector().require_health([""] * 10, golds)


def test_text_nll_is_below_a_uniform_guess_of_a_real_reader_and_context_helps(parts_of) -> None:
    import math

    reader = load_reader(dtype=torch.float32, device="cpu")
    questions = sorted(load_squad("test"), key=lambda each: len(each.context))[:3]
    asked = [question.example for question in questions]
    prefix, endings, answers = parts_of(reader, asked)
    with torch.no_grad():
        text = score(reader, prefix, endings, answers).nll.mean()
        bare = score(reader, empty_prefix(reader, 3), endings, answers)
    assert text < bare.nll.mean() < math.log(reader.vocabulary)
    assert float(cross_entropy(bare.logits, bare.targets)) == pytest.approx(float(bare.nll.mean()))
