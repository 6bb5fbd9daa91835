"""`llgbm retrieve`: an adapter from the store of teachers, by the delta that a text asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.errors import RunError, require_at_least
from llgbm.deltas.merging import MergeMethod, merge
from llgbm.deltas.peft_format import check_output, save_adapter
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.retrieval import retrieve as nearest
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import Condition, ConditionKind, embed_conditions
from llgbm.generators.retriever.predictor import DeltaPredictor
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.text_encoder import PretrainedTextEncoder
from llgbm.generators.training.probes import trained_cache, trained_probes


@dataclass(frozen=True)
class RetrieveTextConfig:
    """Predict a delta from text, retrieve the nearest teachers, merge them.

    Args:
        text: what the adapter is for, or example prompts; several make one condition.
        run: run folder with teachers, delta cache and a retriever.
        retriever: its name.
        kind: what `text` is.
        k: teachers that are merged.
        method: how, in the space of their updates.
        out: folder of the new PEFT adapter; nothing is written where not given.
        overwrite: replace `out` where it exists.
    """

    text: Annotated[tuple[str, ...], tyro.conf.Positional]
    run: Path = Path("runs/demo")
    retriever: str = "retriever"
    kind: ConditionKind = "description"
    k: int = 3
    method: MergeMethod = "average"
    out: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, k=self.k)


def retrieve_text(config: RetrieveTextConfig) -> LoRAWeights:
    """Print the nearest teachers with their cosines; merge and write them where `out` is given.

    Raises:
        RunError: no text, or parts of the run are missing.
        AdapterError: `out` exists.
    """
    texts = tuple(text for text in config.text if text.strip())
    if not texts:
        raise RunError("retrieve: expected a text such as 'Answer science questions', got none")
    if config.out is not None:
        check_output(config.out, config.overwrite)
    run = RunFolder(config.run)
    manifest = Manifest.read(run.manifest)
    folder = run.retriever(config.retriever)
    predictor = DeltaPredictor.load(folder).eval()
    entries = manifest.of_split("train")
    deltas = training_deltas(run, manifest, predictor, folder)
    encoder = PretrainedTextEncoder(predictor.config.text_encoder)
    with torch.no_grad():
        predicted = predictor(embed_conditions([Condition(texts, config.kind)], encoder))[0]
    indices, cosines = nearest(predicted, deltas, config.k)
    for index, cosine in zip(indices.tolist(), cosines.tolist(), strict=True):
        print(f"{cosine:7.4f}  {entries[index].id}")
    found = manifest.load(run.checkpoints, [entries[index] for index in indices.tolist()])
    merged = merge(found, method=config.method)
    if config.out is not None:
        save_adapter(
            merged,
            config.out,
            base_model_name=manifest.base_model,
            base_fingerprint=manifest.base_fingerprint,
        )
        print(f"{config.out}: {config.method} of {len(indices)} teachers, r={merged.spec.r}")
    return merged


def training_deltas(
    run: RunFolder, manifest: Manifest, predictor: DeltaPredictor, folder: Path
) -> Tensor:
    """Deltas [N, ...] of the training teachers, of the kind that a predictor predicts.

    Raises:
        RunError: the predictor is of another base model.
        CacheError: the cache is missing, another one, or incomplete.
    """
    if predictor.metadata.get("base_fingerprint") != manifest.base_fingerprint:
        raise RunError(f"{run.root}: retriever: expected one of this base model, got another")
    probes, spec = trained_probes(predictor.metadata, folder)
    cache = DeltaCache.open(
        run.delta_cache(trained_cache(predictor.metadata)),
        manifest.base_fingerprint,
        named_probes(probes),
        spec,
        manifest.base_model,
    )
    entries = manifest.of_split("train")
    return cache.load_all({entry.id: entry.fingerprint for entry in entries})
