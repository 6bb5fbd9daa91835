"""Delta cosines of every generator of a run, on the training probes and on held-out ones."""

from __future__ import annotations

import torch
from torch import nn

from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.spec import device_of
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour, delta_cosine
from llgbm.generators.training.inputs import collect_inputs
from llgbm.generators.training.probes import trained_probes


@torch.no_grad()
def delta_cosines(
    run: RunFolder, manifest: Manifest, model: nn.Module, held_out_probes: str
) -> dict[str, dict[str, float]]:
    """Mean cosine between the deltas of adapters written for the validation conditions and of
    the task's teachers, for each generator of the run.

    Args:
        run: its folder.
        manifest: its teachers.
        model: frozen base.
        held_out_probes: probes that training did not use.

    Returns:
        `validation` (the training probes) and `held_out_probes` -> generator name -> cosine.
    """
    device = device_of(model)
    found: dict[str, dict[str, float]] = {"validation": {}, "held_out_probes": {}}
    for name in run.generators:
        generator = LoRAGenerator.load(run.generator(name)).eval()
        probes, spec = trained_probes(generator)
        texts = int(generator.metadata["training"]["condition_texts"][1])
        inputs = collect_inputs(run, named_probes(probes), spec, texts)
        encoder = PretrainedTextEncoder(generator.config.text_encoder)
        batch = embed_conditions(inputs.validation, encoder, EmbeddingCache(run.embeddings))
        weights = generator.write(batch).to(device)
        teachers = inputs.weights.to(device)
        for key, probe_name in (("validation", probes), ("held_out_probes", held_out_probes)):
            behaviour = Behaviour.of(model, named_probes(probe_name), spec)
            by_teacher = behaviour(teachers)
            target = torch.stack([by_teacher[list(g)].mean(0) for g in inputs.validation_groups])
            found[key][name] = float(delta_cosine(behaviour(weights), target).mean())
    return found
