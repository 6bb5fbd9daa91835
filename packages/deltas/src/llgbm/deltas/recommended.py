"""What to read off a model's hidden states where nothing else is asked for."""

from __future__ import annotations

from torch import nn

from llgbm.deltas.delta import DeltaSpec


def several_layers(model: nn.Module) -> tuple[int, ...]:
    """The hidden states after a third, two thirds and all of the layers, counted from the last.

    The last is -1, after the final norm.
    """
    most = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    places = {max(1, most // 3), max(1, 2 * most // 3), most}
    return tuple(place - most - 1 for place in sorted(places))


def recommended_deltas(model: nn.Module) -> DeltaSpec:
    """Every probe's last token in several layers.

    An adapter of rank 1 in one layer can have any mean delta over a few probes
    (`llgbm identifiability`); probes one by one, in several layers, leave it less room.
    """
    return DeltaSpec(several_layers(model), aggregation="per_probe")
