"""`llgbm generate`: write a PEFT adapter from text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from llgbm.deltas.errors import RunError
from llgbm.deltas.module_files import base_of
from llgbm.deltas.peft_format import check_output, save_adapter
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import Condition, ConditionKind, embed_conditions
from llgbm.generators.generator import GeneratorOutput, LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder


@dataclass(frozen=True)
class GenerateConfig:
    """Write an adapter from a description, or from example prompts.

    Args:
        text: what the adapter is for, in a sentence, or an example prompt; several make one
            condition.
        generator: run folder, or the folder of one trained generator.
        out: folder of the new PEFT adapter.
        prompts: text file with one example prompt a line, instead of `text`.
        kind: what `text` is.
        overwrite: replace `out` where it exists.
    """

    text: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    generator: Path = Path("runs/demo")
    out: Path = Path("generated-adapter")
    prompts: Path | None = None
    kind: ConditionKind = "description"
    overwrite: bool = False


def find_generator(path: Path) -> Path:
    """Return the folder of a trained generator: `path` itself, or the only one of a run.

    Of several, the one named `generator`.

    Raises:
        RunError: none there, or several of which none is named `generator`.
    """
    if (path / "generator.safetensors").exists():
        return path
    run = RunFolder(path)
    names = run.generators
    if not names:
        raise RunError(f"{path}: generator: expected a trained one, got none: run `llgbm train`")
    if len(names) > 1 and "generator" not in names:
        raise RunError(
            f"{path}: generator: expected one, got {names}: give {path / 'generators' / names[0]}"
        )
    return run.generator("generator" if "generator" in names else names[0])


def read_condition(config: GenerateConfig) -> Condition:
    """Make the condition of a command line.

    Raises:
        RunError: no text, an empty one, or both texts and a file.
    """
    if config.prompts is not None:
        if config.text:
            raise RunError("generate: expected either texts or --prompts FILE, got both")
        try:
            content = config.prompts.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RunError(f"{config.prompts}: expected UTF-8 text, got {error}") from error
        lines = tuple(line.strip() for line in content.splitlines() if line.strip())
        if not lines:
            raise RunError(f"{config.prompts}: expected one prompt a line, got an empty file")
        return Condition(lines, "prompts")
    if not any(text.strip() for text in config.text):
        raise RunError("generate: expected a text such as 'Answer science questions', got none")
    return Condition(tuple(text for text in config.text if text.strip()), config.kind)


@torch.no_grad()
def write_adapters(
    generator: LoRAGenerator, conditions: Sequence[Condition], embeddings: EmbeddingCache | None
) -> GeneratorOutput:
    """Run a generator on conditions; n = b adapters on the CPU, and predicted deltas."""
    encoder = PretrainedTextEncoder(generator.config.text_encoder)
    batch = embed_conditions(conditions, encoder, embeddings)
    return generator.eval()(batch)


def save_generated(
    base: tuple[str, str], weights: LoRAWeights, condition: Condition, out: Path
) -> None:
    """Write one generated adapter with the condition it was written from.

    Args:
        base: name and fingerprint of its base model.
        weights: n = 1.
        condition: it was written from.
        out: folder.
    """
    weights.check_finite(out)
    name, fingerprint = base
    content = {"kind": condition.kind, "texts": list(condition.texts)}
    save_adapter(
        weights,
        out,
        base_model_name=name,
        base_fingerprint=fingerprint,
        extra_files={"condition.json": json.dumps(content, ensure_ascii=False, indent=1)},
    )


def generate(config: GenerateConfig) -> Path:
    """Write one adapter and return its folder.

    Raises:
        RunError: no generator or no text.
        AdapterError: `out` exists.
    """
    condition = read_condition(config)
    folder = find_generator(config.generator)
    check_output(config.out, config.overwrite)
    generator = LoRAGenerator.load(folder)
    base = base_of(generator.metadata, folder)
    output = write_adapters(generator, [condition], embeddings=None)
    save_generated(base, output.weights, condition, config.out)
    print(
        f"{config.out}: adapter of {len(output.weights.spec.modules)} modules, "
        f"r={output.weights.spec.r}, for {base[0]}"
    )
    return config.out
