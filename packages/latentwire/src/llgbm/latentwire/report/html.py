"""report.html: one file, nothing fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from llgbm.latentwire.config_tree import as_tree
from llgbm.latentwire.evaluation.ablation import Ablation
from llgbm.latentwire.evaluation.evaluate import BUDGET, TEXT
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.table import COLUMNS, SECONDS
from llgbm.latentwire.report.answers import LATENT, shown_rows, side_by_side, verdict_of
from llgbm.latentwire.report.data import Curve, RunData
from llgbm.latentwire.report.looks import Look
from llgbm.latentwire.report.plots import curves_plot, intervals_plot

WEIGHTED = "weighted/"
SCORES = {"first_at_1": "first token right"}
QUANTITIES = {
    "f1": "F1",
    "em": "exact match",
    "nll": "nats a token",
    "text": "F1 of text",
    "shuffled": "F1 of shuffled latents",
    BUDGET: "F1 of the token budget",
    "minus_text": "F1 - text",
    f"minus_{BUDGET}": "F1 - token budget",
    "minus_shuffled": "F1 - shuffled latents",
    "minus_text_nll": "NLL - text",
    f"minus_{BUDGET}_nll": "NLL - token budget",
    "minus_shuffled_nll": "NLL - shuffled latents",
}
AGAINST = {TEXT: "text", BUDGET: "the token budget"}


def render(run: RunData | None, ablation: Ablation | None, name: str) -> str:
    """Render the report as HTML text.

    Args:
        run: left out where None.
        ablation: left out where None.
        name: of the folder.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=PackageLoader(__package__, ".")
    )
    environment.filters["quoted"] = quoted
    return environment.get_template("page.html.j2").render(
        name=name,
        run=None if run is None else _run(run),
        ablation=None if ablation is None else _ablation(ablation),
    )


def _run(run: RunData) -> dict[str, Any]:
    """What the sections of a run show."""
    compressor = run.config.compressor
    parts = {key: getattr(compressor, key) for key in as_tree(compressor)}
    own = parts.get("second")  # the second reader's port; those above are the first one's
    parts |= {f"second reader's {key}": getattr(own, key) for key in as_tree(own)} if own else {}
    return {
        "config": run.config,
        "parts": {key: part.name for key, part in parts.items() if hasattr(part, "name")},
        "flat": flat(as_tree(run.config)),
        "best": run.best,
        "finished": run.finished,
        **_training(run),
        **_looks(run.looks, run.stages),
        "tables": {place: _evaluation(found) for place, found in run.evaluations.items()},
        "joint": run.joint,
        "origin": _origin(run),
    }


def _origin(run: RunData) -> Mapping[str, Any] | None:
    """Where numbers come from: the evaluation, or else the training."""
    for evaluation in run.evaluations.values():
        return evaluation.environment
    return None if run.finished is None else run.finished.environment


def _training(run: RunData) -> dict[str, Any]:
    """Pictures of metrics.jsonl; None where there is nothing to draw."""
    train, validation = run.curves["train"], run.curves["validation"]
    terms = {
        key.removeprefix(WEIGHTED): curve
        for key, curve in train.items()
        if key.startswith(WEIGHTED)
    }
    total = {"sum": train["loss"]} if "loss" in train else {}
    logged = {
        key: curve
        for key, curve in train.items()
        if "/" in key and not key.startswith((WEIGHTED, "loss/"))
    }
    nats = {key: validation[key] for key in ("nll", "smoothed") if key in validation}
    scores = {SCORES[key]: validation[key] for key in SCORES if key in validation}
    best = None if run.best is None else (run.best.step, run.best.validation)
    return {
        "losses": _curves(total | terms, run.stages, "what each term adds", log=True),
        "logged": _curves(logged, run.stages, "measured by terms"),
        "validation": _curves(nats, run.stages, "validation, nats a token", best=best),
        "scores": _curves(scores, run.stages, "share of validation answers"),
    }


def _looks(looks: Sequence[Look], stages: Mapping[str, int]) -> dict[str, Any]:
    """Pictures of diagnostics.jsonl, and the slots of its first and last look."""
    parts: dict[str, dict[str, list[tuple[int, float]]]] = {}
    terms: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for look in looks:
        for norms, into in ((look.part_gradient_norms, parts), (look.term_gradient_norms, terms)):
            for key, norm in norms.items():
                # A logarithm has no 0: a look at which nothing moved a part has no point.
                if norm > 0:
                    by_stage = into.setdefault(key, {})
                    by_stage.setdefault(look.stage, []).append((look.step, norm))
    drawn = {
        name: _curves(
            {key: list(by_stage.values()) for key, by_stage in found.items()},
            stages,
            f"gradient norm by {name}",
            log=True,
        )
        for name, found in (("part", parts), ("term", terms))
    }
    decoded = [look for look in looks if look.slots]
    return {
        "part_norms": drawn["part"],
        "term_norms": drawn["term"],
        "decoded": decoded if len(decoded) < 2 else [decoded[0], decoded[-1]],
    }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """The table with its pictures, and answers."""
    rows = shown_rows(evaluation)
    ours = [row for row in evaluation.rows if row == LATENT or row.startswith("unpacked_")]
    scored = {row: found["f1"] for row, found in evaluation.intervals.items() if "f1" in found}
    differences = {AGAINST.get(key, key): found for key, found in evaluation.differences.items()}
    against = {f"minus {key}": found for key, found in differences.items() if found}
    return {
        "results": evaluation,
        "columns": COLUMNS,
        "counts": ("prompt_tokens", "slots"),
        "seconds": SECONDS,
        "ours": ours,
        "plot": _inline(intervals_plot({"F1": scored}, "F1, 95% interval", ours)),
        "differences": differences,
        "differences_plot": _inline(
            intervals_plot(against, "difference of F1, 95% interval", ours, zero=True)
        )
        if against
        else None,
        "answer_rows": rows,
        "asked": side_by_side(evaluation, rows),
        "has_latent": LATENT in evaluation.rows,
        "verdict": verdict_of(evaluation) if LATENT in evaluation.rows else None,
    }


def _ablation(ablation: Ablation) -> dict[str, Any]:
    """The table of an ablation and its picture."""
    series = {
        QUANTITIES[key]: {name: run[key] for name, run in ablation.runs.items() if key in run}
        for key in ("f1", "text", BUDGET)
        if key in ablation.quantities
    }
    return {
        "results": ablation,
        "quantities": {key: QUANTITIES.get(key, key) for key in ablation.quantities},
        "plot": _inline(intervals_plot(series, "F1, 95% interval")),
    }


def quoted(text: str) -> str:
    """A text in quotes, so that white space is seen."""
    return json.dumps(text, ensure_ascii=False)


def flat(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Leaves of a config's tree with their dotted paths, as overrides name them."""
    if isinstance(tree, Mapping):
        pairs = list(tree.items())
    elif isinstance(tree, list | tuple) and any(isinstance(each, Mapping) for each in tree):
        pairs = [(str(place), each) for place, each in enumerate(tree)]
    else:
        return [(path, tree)]
    return [leaf for key, value in pairs for leaf in flat(value, f"{path}.{key}" if path else key)]


def _curves(
    curves: Mapping[str, Curve],
    stages: Mapping[str, int],
    label: str,
    log: bool = False,
    best: tuple[int, float] | None = None,
) -> str | None:
    return _inline(curves_plot(curves, stages, label, log, best)) if curves else None


def _inline(svg: str) -> str:
    """An SVG element of a page, which needs no names of namespaces."""
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
