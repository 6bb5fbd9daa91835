"""A picture of a map of deltas, coloured by task."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llgbm.deltas.atomic import write_bytes
from llgbm.deltas.errors import SettingError, mismatch

FORMATS = (".png", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raise SettingError unless a picture can be written to a file of that name."""
    if path.suffix.lower() not in FORMATS:
        raise SettingError(mismatch(path, "suffix", " or ".join(FORMATS), repr(path.suffix)))


def save_delta_map(path: Path, points: NDArray[np.float32], labels: Sequence[str]) -> None:
    """Draw points, a colour a label, and write the picture.

    Args:
        path: .png, .svg or .pdf.
        points: [N, 2].
        labels: N.

    Raises:
        SettingError: another suffix.
    """
    check_picture(path)
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    different = list(dict.fromkeys(labels))
    colours = [colormaps["tab20"](index) for index in range(20)]
    markers = "os^Dv"
    for index, label in enumerate(different):
        rows = [place for place, other in enumerate(labels) if other == label]
        axes.scatter(
            points[rows, 0],
            points[rows, 1],
            s=28,
            color=[colours[index % len(colours)]],
            marker=markers[index // len(colours) % len(markers)],
            label=label,
        )
    axes.set(xticks=[], yticks=[], title="t-SNE of deltas, distance 1 - cosine")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, buffer.getvalue())
