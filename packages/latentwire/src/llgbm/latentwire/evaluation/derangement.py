"""Which text's latents a shuffled row reads: always those of another document."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.examples import Example


def other_contexts(examples: Sequence[Example], seed: int = 0) -> list[str]:
    """For every example the context of another document; examples of one context share it.

    A document is a title, or a context where there is none. Contexts stand in a circle, document
    after document, in an order drawn from the seed, and each takes the one that stands as far on
    as the largest document is long: no context is taken twice. Only where one document holds
    more than half of all contexts is there no such assignment; then each takes the next
    context that is of another document.

    Args:
        examples: that are asked.
        seed: of the order.

    Raises:
        PromptError: all examples are of one document.
    """
    document = {example.context: example.title or example.context for example in examples}
    sizes = Counter(document.values())
    if len(sizes) < 2:
        raise PromptError(f"shuffled: expected at least 2 documents, got {len(sizes)}")
    draw = random.Random(f"{seed}:shuffled")
    documents, contexts = sorted(sizes), sorted(document)
    draw.shuffle(documents)
    draw.shuffle(contexts)
    places = {name: place for place, name in enumerate(documents)}
    circle = sorted(contexts, key=lambda context: places[document[context]])
    step = max(sizes.values())
    taken = {}
    for place, context in enumerate(circle):
        other = place + step
        while document[circle[other % len(circle)]] == document[context]:
            other += 1
        taken[context] = circle[other % len(circle)]
    return [taken[example.context] for example in examples]
