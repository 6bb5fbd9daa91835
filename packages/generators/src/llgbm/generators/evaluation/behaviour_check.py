"""Delta cosines of generators, on the training probes and on held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.spec import device_of
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.shards import Split
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import ValidationSet, collect_inputs
from llgbm.generators.training.probes import trained_cache, trained_probes, validated_by


@torch.no_grad()
def delta_cosines(
    run: RunFolder,
    manifest: Manifest,
    model: nn.Module,
    held_out_probes: str,
    generators: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Mean cosine between the deltas of adapters written for the validation conditions and of
    the task's teachers, for each generator. Best steps were chosen by these conditions.

    Args:
        run: its folder.
        manifest: its teachers.
        model: frozen base.
        held_out_probes: probes that training did not use.
        generators: names of finished ones.

    Returns:
        `validation` (the training probes) and `held_out_probes` -> generator name -> cosine;
        `validation_family` and `validation_family_held_out_probes` beside them, where the run
        has validation families.
    """
    device = device_of(model)
    found: dict[str, dict[str, float]] = {}

    @cache
    def reading(probe_name: str, spec: DeltaSpec) -> Behaviour:
        return Behaviour.of(model, named_probes(probe_name), spec)

    @cache
    def targets(split: Split, probe_name: str, spec: DeltaSpec) -> Tensor:
        """Mean delta of each task's teachers, [tasks, ...]; the same for every generator."""
        entries = manifest.of_split(split)
        deltas = reading(probe_name, spec)(manifest.load(run.checkpoints, entries).to(device))
        tasks = dict.fromkeys(entry.task for entry in entries)
        return torch.stack(
            [deltas[[i for i, e in enumerate(entries) if e.task == task]].mean(0) for task in tasks]
        )

    for name in generators:
        folder = run.generator(name)
        generator = LoRAGenerator.load(folder).eval()
        probes, spec = trained_probes(generator.metadata, folder)
        texts = int(generator.metadata["training"]["condition_texts"][1])
        inputs = collect_inputs(
            run,
            named_probes(probes),
            spec,
            texts,
            trained_cache(generator.metadata),
            validated_by(generator.metadata),
        )
        encoder = PretrainedTextEncoder(generator.config.text_encoder)
        parts: list[tuple[str, str, ValidationSet, Split]]
        parts = [("validation", "held_out_probes", inputs.seen, "train")]
        if inputs.families is not None:
            own, other = "validation_family", "validation_family_held_out_probes"
            parts.append((own, other, inputs.families, "validation"))
        for own, other, part, split in parts:
            batch = embed_conditions(part.conditions, encoder, EmbeddingCache(run.embeddings))
            weights = generator.write(batch).to(device)
            for key, probe_name in ((own, probes), (other, held_out_probes)):
                written = reading(probe_name, spec)(weights)
                cosine = delta_cosine(written, targets(split, probe_name, spec)).mean()
                found.setdefault(key, {})[name] = float(cosine)
    return found
