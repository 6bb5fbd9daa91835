"""Codes and tasks: which codes the adapters of a task have, and what a code tells of its task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor


def codes_of_tasks(codes: Tensor, tasks: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return task -> code -> how often its adapters have it, the most frequent first.

    Args:
        codes: [n, places] int64.
        tasks: of each adapter.
    """
    counted: dict[str, Counter[int]] = {task: Counter() for task in tasks}
    for row, task in zip(codes.tolist(), tasks, strict=True):
        counted[task].update(row)
    return {
        task: {str(code): count for code, count in counter.most_common()}
        for task, counter in counted.items()
    }


def code_task_information(codes: Tensor, tasks: Sequence[str]) -> float:
    """Adjusted mutual information of the code at a place and the task, mean over places.

    1 where a place's code names the task and nothing else, 0 where it tells no more than chance:
    a code of its own for every adapter does not count as telling.

    Args:
        codes: [n, places] int64.
        tasks: of each adapter.
    """
    labels = np.unique(np.asarray(tasks), return_inverse=True)[1]
    return float(
        np.mean([adjusted_mutual_info_score(labels, place) for place in codes.T.cpu().numpy()])
    )


def table_of_codes(
    counted: Mapping[str, Mapping[str, int]], most: int = 0
) -> tuple[list[str], np.ndarray]:
    """Return codes, in the order of the task that has most of each, and counts [tasks, codes].

    Args:
        counted: of `codes_of_tasks`.
        most: the so many most frequent codes alone; all where 0.
    """
    total: Counter[str] = sum((Counter(counts) for counts in counted.values()), Counter())
    codes = sorted((code for code, _ in total.most_common(most or None)), key=int)
    table = np.array([[counts.get(code, 0) for code in codes] for counts in counted.values()])
    order = np.lexsort((-table.max(0), table.argmax(0)))
    return [codes[place] for place in order], table[:, order]
