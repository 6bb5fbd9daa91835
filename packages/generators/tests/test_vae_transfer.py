"""A VAE's latents for another base: encoder frozen, decoder new."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.errors import SettingError
from llgbm.deltas.metrics_log import read_metrics
from llgbm.deltas.peft_format import load_adapter, read_adapter_info
from llgbm.generators.cli import CONSOLE
from llgbm.generators.runs import RunFolder
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.transfer import ADOPTED

SMALL = (
    "--vae.latent-dim", "8", "--vae.delta-hidden", "16", "--steps", "6", "--batch-size", "2",
    "--validate-every", "3", "--condition-texts", "1", "3",
)  # fmt: skip


@pytest.fixture
def other_run(tiny_run, teach_command, tmp_path):
    """Return a run with the same teachers' ids on a wider and deeper model of another kind."""
    from transformers import AutoTokenizer

    base = tmp_path / "wide"
    torch.manual_seed(3)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=320, hidden_size=48, intermediate_size=64, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2,
        )
    ).save_pretrained(base)  # fmt: skip
    AutoTokenizer.from_pretrained(tiny_run[1]).save_pretrained(base)
    run = tmp_path / "other"
    short = ["--optim.steps", "2", "--optim.warmup-steps", "2"]
    assert CONSOLE.run(teach_command(run, base, tiny_run[2], *short)) == 0
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    return run


def transferred(run, source_run, name: str, *more: str) -> int:
    vae = RunFolder(source_run).generator("vae")
    given = ["--transfer-from", str(vae), "--sources", str(source_run)]
    return CONSOLE.run(["train-vae", "--run", str(run), "--name", name, *given, *SMALL, *more])


@pytest.fixture
def source_run(run_copy):
    """Return a run with a trained VAE of codes, which move without gradients in training."""
    words = ["--vae.bottleneck.warmup-steps", "2", "--vae.bottleneck.codebook-size", "4"]
    parts = ["vae.bottleneck:vector-quantized-config", *words, "--vae.bottleneck.code-dim", "4"]
    run = ["train-vae", "--run", str(run_copy), "--name", "vae", *SMALL]
    assert CONSOLE.run([*run, *parts]) == 0
    return run_copy


def test_the_encoder_stays_and_the_decoder_writes_for_the_other_base(
    source_run, other_run, tmp_path, capsys
) -> None:
    assert transferred(other_run, source_run, "moved") == 0
    folder = RunFolder(other_run).generator("moved")
    vae, source = load_vae(folder), load_vae(RunFolder(source_run).generator("vae"))
    assert vae.source == source.spec
    assert vae.spec != source.spec
    for part in ADOPTED:
        here, there = getattr(vae, part).state_dict(), getattr(source, part).state_dict()
        assert all(torch.equal(here[name], there[name]) for name in there), part
    records = [r for r in read_metrics(folder / "metrics.jsonl") if r["split"] == "held_out"]
    assert records[-1]["update_cosine"] > records[0]["update_cosine"]
    # The tools read adapters of the one base and write for the other.
    adapters = sorted((source_run / "checkpoints").glob("*/*_000"))
    ends = [str(adapters[0]), str(adapters[1])]
    out = tmp_path / "between"
    assert CONSOLE.run(["interpolate", *ends, "--vae", str(folder), "--out", str(out)]) == 0
    written = load_adapter(out / "step_002")
    assert written.spec == vae.spec
    assert read_adapter_info(out / "step_002").base_model_name == str(tmp_path / "wide")
    foreign = str(next((other_run / "checkpoints").glob("*/*_000")))
    words = ["interpolate", foreign, ends[0], "--vae", str(folder), "--out", str(tmp_path / "x")]
    assert CONSOLE.run(words) == 2
    assert "base model: expected" in capsys.readouterr().err


def test_a_transfer_goes_on_where_it_stopped_with_the_same_settings(source_run, other_run, capsys):
    assert transferred(other_run, source_run, "moved") == 0
    before = RunFolder(other_run).generator("moved") / "vae.safetensors"
    stamp = before.stat().st_mtime_ns
    assert transferred(other_run, source_run, "moved") == 0
    assert before.stat().st_mtime_ns == stamp
    assert transferred(other_run, source_run, "moved", "--lr", "0.01") == 2
    assert "lr: expected" in capsys.readouterr().err


def test_what_does_not_belong_together_is_told(source_run, other_run, capsys) -> None:
    assert transferred(other_run, other_run, "x") == 2
    assert "vae" in capsys.readouterr().err  # no VAE was trained there
    vae = RunFolder(source_run).generator("vae")
    words = ["--transfer-from", str(vae), "--sources", str(other_run)]
    assert CONSOLE.run(["train-vae", "--run", str(other_run), "--name", "x", *words]) == 2
    assert "base model: expected the one of" in capsys.readouterr().err
    words = ["--transfer-from", str(vae)]
    assert CONSOLE.run(["train-vae", "--run", str(other_run), "--name", "x", *words]) == 2
    assert "transfer_from and sources: expected both or neither" in capsys.readouterr().err
    assert transferred(other_run, source_run, "x", "--augment.interpolated", "2") == 2
    assert "augment: expected none with transfer_from" in capsys.readouterr().err
    manifest = RunFolder(source_run).manifest
    content = json.loads(manifest.read_text())
    lost = content["adapters"].pop(0)["id"]
    manifest.write_text(json.dumps(content))
    assert transferred(other_run, source_run, "x") == 2
    assert lost in capsys.readouterr().err


def test_codes_of_layers_need_as_many_layers(tiny_spec, make_teachers) -> None:
    shallow = type(tiny_spec)(
        tuple(module for module in tiny_spec.modules if module.layer == 0),
        tiny_spec.r,
        tiny_spec.lora_alpha,
    )
    with pytest.raises(SettingError, match="layer_code_dim: expected 0 to write for 2 layers"):
        LoRAGeneratorVAE(VAEConfig(layer_code_dim=4), tiny_spec, (32,), source=shallow)
