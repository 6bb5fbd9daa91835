"""Tiny real parts: nothing here needs a network or a large model."""

from __future__ import annotations

import os

# Before transformers is imported: a test that reaches for the hub must fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.deltas.weights import LoRAWeights

HIDDEN, KV, INTERMEDIATE, LAYERS, VOCABULARY = 32, 16, 64, 2, 320
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KV),
    "self_attn.v_proj": (HIDDEN, KV),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INTERMEDIATE),
    "mlp.up_proj": (HIDDEN, INTERMEDIATE),
    "mlp.down_proj": (INTERMEDIATE, HIDDEN),
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny products lose more to threads than they win, and several test runs share a machine."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_spec() -> LoRASpec:
    """All seven linears of the two layers of `make_tiny_model`, r = 4, scaling 2."""
    modules = tuple(
        ModuleShape(f"model.layers.{layer}.{name}", *shape)
        for layer in range(LAYERS)
        for name, shape in SHAPES.items()
    )
    return LoRASpec(modules, r=4, lora_alpha=8.0)


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    """A fresh frozen two-layer Llama, float32, in evaluation mode."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.requires_grad_(False).eval()


@pytest.fixture
def make_tiny_model() -> Callable[..., LlamaForCausalLM]:
    """Return a maker of fresh frozen tiny Llamas: `make_tiny_model(seed=0)`, float32, eval."""
    return tiny_model


@pytest.fixture
def make_teachers() -> Callable[..., LoRAWeights]:
    """Return a maker of random adapters around one A: `make_teachers(spec, n, seed=0)`."""

    def make(spec: LoRASpec, n: int, seed: int = 0) -> LoRAWeights:
        generator = torch.Generator().manual_seed(seed)
        initial = LoRAWeights.initial(spec, n, generator)

        def moved(factor: torch.Tensor, size: float) -> torch.Tensor:
            return factor + size * torch.randn(factor.shape, generator=generator)

        return LoRAWeights(
            spec,
            {path: moved(factor, 0.02) for path, factor in initial.lora_A.items()},
            {path: moved(factor, 0.05) for path, factor in initial.lora_B.items()},
        )

    return make


def tiny_tokenizer():
    """One id a byte."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {chr(code): code for code in range(256)} | {"<unk>": 256, "<eos>": 257}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>"
    )


@pytest.fixture
def tokenizer():
    """Return a tokenizer with one id a byte."""
    return tiny_tokenizer()


def write_tasks(folder) -> list[str]:
    """Three little tasks with answers that a tiny model can learn; return their files."""
    import json

    answers = {"caps": ("AA", "bb"), "digits": ("11", "zz"), "marks": ("!!", "??")}
    files = []
    for name, choices in answers.items():
        rows = [
            {"query": f"{name} {i}:", "choices": list(choices), "gold": int(i % 4 == 0)}
            for i in range(40)
        ]
        content = {
            "name": name,
            "descriptions": [f"Say {name} kind {k}" for k in range(4)],
            "examples": rows,
        }
        file = folder / f"{name}.json"
        file.write_text(json.dumps(content))
        files.append(str(file))
    return files


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Return (run folder, model folder, task files) of a whole run on a tiny model."""
    from llgbm.deltas.cli import CONSOLE as DELTAS
    from llgbm.generators.cli import CONSOLE

    root = tmp_path_factory.mktemp("tiny")
    tiny_model(seed=0).save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")
    files = write_tasks(root)
    run = root / "run"
    assert CONSOLE.run(teach_arguments(run, root / "model", files)) == 0
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    assert CONSOLE.run(train_arguments(run, "generator")) == 0
    assert CONSOLE.run(["evaluate", "--run", str(run), "--examples", "6"]) == 0
    assert CONSOLE.run(["report", "--run", str(run)]) == 0
    return run, root / "model", files


def teach_arguments(run, model, files, *more: str) -> list[str]:
    """Arguments of `llgbm teach` for the tiny tasks, the last of them held out."""
    return [
        "teach", "--run", str(run), "--base-model", str(model), "--tasks", *files[:2],
        "--held-out", files[2], "--r", "2", "--lora-alpha", "4", "--optim.steps", "6",
        "--optim.examples-per-step", "4", "--optim.lr", "0.02", "--save-every", "2", *more,
    ]  # fmt: skip


def train_arguments(run, name: str, *more: str) -> list[str]:
    """Arguments of `llgbm train` for a short delta-guided run."""
    return [
        "train", "--run", str(run), "--name", name, "--steps", "6", "--batch-size", "2",
        "--validate-every", "3", "--save-every", "2", "--condition-texts", "1", "3", *more,
        "objective:delta-guided", "--objective.every-n", "2", "--objective.lambda-weight", "1",
    ]  # fmt: skip


@pytest.fixture
def teach_command():
    """Return the maker of `llgbm teach` command lines."""
    return teach_arguments


@pytest.fixture
def train_command():
    """Return the maker of `llgbm train` command lines."""
    return train_arguments


@pytest.fixture
def run_copy(tiny_run, tmp_path):
    """Return a copy of the finished tiny run, to be changed."""
    import shutil

    shutil.copytree(tiny_run[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def set_tiny_preset(tiny_run, monkeypatch):
    """Return a maker of sizes for the tiny model and its tasks, in place of the `demo` preset."""
    from llgbm.generators.experiments import presets
    from llgbm.generators.teachers.batched import TeacherOptim

    def make(**changes):
        files = tiny_run[2]
        sizes = {
            "tasks": (files[0], files[1]),
            "validation": (files[2],),
            "held_out": (),
            "teachers_per_task": 2,
            "teacher": TeacherOptim(steps=4, examples_per_step=4, lr=0.02),
            "steps": 6,
            "batch_size": 2,
            "codes": 2,
            "seeds": 2,
            "examples": 4,
            "equal_seconds": 0.5,
            "pairs": 1,
            "r": 2,
        }
        tiny = presets.ExperimentPreset(**{**sizes, **changes})
        monkeypatch.setitem(presets.PRESETS, "demo", tiny)
        return tiny

    return make


def quadratic_metrics(blocks) -> dict[str, float]:
    """Two aims in tension: how near weights are to a target, and to where they began."""
    flat = torch.cat([blocks[name].flatten().float() for name in sorted(blocks)])
    target = torch.linspace(-1, 1, len(flat))
    return {
        "gain": -float((flat - target).square().mean()),
        "retention": -float(flat.square().mean()),
    }


@pytest.fixture(scope="session")
def quadratic_runs(tmp_path_factory):
    """Return a folder of 15 runs of 5 checkpoints: noisy descents towards a target."""
    import json

    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("quadratic")
    for index in range(15):
        generator = torch.Generator().manual_seed(index)
        lr = 0.02 + 0.01 * index
        blocks = {
            "one.weight": torch.zeros(4, 6),
            "one.bias": torch.zeros(6),
            "scale": torch.ones(1),
        }
        whole = sum(each.numel() for each in blocks.values())
        target = torch.linspace(-1, 1, whole)
        run = folder / f"run_{index:02d}"
        run.mkdir()
        steps = {}
        flat = torch.zeros(whole)
        for step in range(1, 6):
            noise = 0.05 * torch.randn(whole, generator=generator)
            flat = flat + lr * (target - flat + noise)
            sizes = [blocks[name].numel() for name in sorted(blocks)]
            parts = flat.split(sizes)
            blocks = {
                name: part.view(blocks[name].shape).contiguous()
                for name, part in zip(sorted(blocks), parts, strict=True)
            }
            save_file(blocks, run / f"step_{step * 10}.safetensors")
            steps[str(step * 10)] = quadratic_metrics(blocks)
        (run / "metrics.json").write_text(
            json.dumps({"hyperparameters": {"lr": lr, "constant": 1.0}, "steps": steps})
        )
    return folder


@pytest.fixture(scope="session")
def quadratic_evaluator(tmp_path_factory) -> str:
    """Return a command that measures a checkpoint of `quadratic_runs` and prints JSON."""
    import sys

    script = tmp_path_factory.mktemp("evaluator") / "measure.py"
    script.write_text(
        # Without torch, which takes seconds to import.
        "import json, sys\n"
        "import numpy as np\n"
        "from safetensors.numpy import load_file\n"
        "blocks = load_file(sys.argv[1])\n"
        "flat = np.concatenate([blocks[name].ravel() for name in sorted(blocks)])\n"
        "target = np.linspace(-1, 1, len(flat))\n"
        "print('measured')\n"
        "print(json.dumps({'gain': -float(np.square(flat - target).mean()),"
        " 'retention': -float(np.square(flat).mean())}))\n"
    )
    return f"{sys.executable} {script} {{checkpoint}}"


@pytest.fixture(scope="session")
def quadratic_collection(quadratic_runs, tmp_path_factory):
    """Return the collection of `quadratic_runs`."""
    from llgbm.generators.sideways.collection.from_folders import FolderSource, collect_folders

    out = tmp_path_factory.mktemp("collections") / "quadratic"
    return collect_folders(out, FolderSource(quadratic_runs))


@pytest.fixture(scope="session")
def quadratic_model(quadratic_collection):
    """Return a sideways VAE of `quadratic_collection`."""
    from llgbm.generators.sideways.model.config import SidewaysSizes, SidewaysTraining
    from llgbm.generators.sideways.train import fit_sideways

    training = SidewaysTraining(
        steps=300, sizes=SidewaysSizes(latent_dim=4, directions=8, width=32, members=3)
    )
    return fit_sideways(quadratic_collection, quadratic_collection.folder / "model", training)


@pytest.fixture
def words_task(tmp_path) -> Callable[[str], str]:
    """Return a writer of tasks of 80 examples with queries that differ; it returns their file."""
    import json
    import random

    words = ["red", "blue", "green", "small", "large", "round", "old", "new", "warm", "cold"]

    def write(name: str) -> str:
        rng = random.Random(name)
        rows = [
            {
                "query": f"{' '.join(rng.choices(words, k=4))} {i} say:",
                "choices": [" aa", " bb"],
                "gold": int(i % 3 == 0),
            }
            for i in range(80)
        ]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"name": name, "descriptions": [], "examples": rows}))
        return str(path)

    return write


@pytest.fixture
def tiny_adapter_runs(words_task):
    """Return settings of a few short adapter runs on little tasks, for a tiny model."""
    from llgbm.generators.sideways.adapters.hyperparameters import HyperparameterRanges
    from llgbm.generators.sideways.adapters.source import AdapterRuns

    return AdapterRuns(
        task=words_task("task"),
        general=words_task("general"),
        others=(words_task("other"),),
        runs=4,
        steps=4,
        keep_every=2,
        examples_per_step=4,
        ranges=HyperparameterRanges(lr_low=1e-3, lr_high=2e-2, examples_low=8, examples_high=32),
        scored=8,
        scored_of_others=8,
        texts=3,
    )
