"""A teacher in its run: a PEFT folder with the prompts that conditions are drawn from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import TeacherEntry
from llgbm.generators.teachers.shards import Shard


def save_teacher(
    run: RunFolder,
    shard: Shard,
    weights: LoRAWeights,
    losses: Sequence[float],
    base_model: str,
    base_fingerprint: str,
) -> TeacherEntry:
    """Write one adapter (n = 1) and return its entry of the index.

    Args:
        run: folder of the run.
        shard: examples whose queries and answers are written beside it.
        weights: of the teacher.
        losses: of its training, a step each; none where it was trained elsewhere.
        base_model: name of the base.
        base_fingerprint: of its weights.
    """
    path = f"{shard.task}/{shard.id}"
    prompts = {
        "task": shard.task,
        "family": shard.family,
        "prompts": [example.query for example in shard.examples],
        "answers": [example.choices[example.gold] for example in shard.examples],
    }
    save_adapter(
        weights,
        run.checkpoints / path,
        base_model_name=base_model,
        base_fingerprint=base_fingerprint,
        extra_files={"prompts.json": json.dumps(prompts, ensure_ascii=False, indent=1)},
    )
    history = tuple(round(float(loss), 5) for loss in losses)
    return TeacherEntry(
        shard.id,
        shard.task,
        shard.family,
        shard.split,
        path,
        adapter_fingerprint(weights),
        len(shard.examples),
        len(history),
        history[-1] if history else 0.0,
        history,
    )
