"""What is compared: every table is a question and its variants, each as words over a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from llgbm.latentwire.experiments.presets import LatentwirePreset

# Overrides of the packaged config `recipe`.
Words = tuple[str, ...]
UNTRAINED = "stages.0.steps=0"


@dataclass(frozen=True)
class Table:
    """A question and what answers it.

    Attributes:
        question: in words.
        variants: words of each by the name that the table shows.
    """

    question: str
    variants: Callable[[LatentwirePreset], Mapping[str, Words]]


def stage(
    preset: LatentwirePreset, losses: str = "[{name='answer'}]", longest: int | None = None
) -> str:
    """Word for one stage of questions, on passages of at most `longest` words or the preset's."""
    longest = preset.longest if longest is None else longest
    return (
        f"stages=[{{name='questions', steps={preset.steps}, batch_size={preset.batch_size}, "
        f"lr=1e-3, data={{name='squad', longest={longest}}}, losses={losses}}}]"
    )


def _poolers(preset: LatentwirePreset) -> dict[str, Words]:
    base = ("compressor.encoder.name=embeddings", stage(preset))
    found: dict[str, Words] = {
        f"{pooler}, {ratio}x": (
            *base,
            f"compressor.pooler.name={pooler}",
            f"compressor.slots.ratio={ratio}",
        )
        for ratio in (2, 4)
        for pooler in ("attention", "hierarchical", "convolution", "expand", "queries")
    }
    mean = (*base, "compressor.pooler.name=mean", "compressor.slots.ratio=4")
    return {**found, "mean, 4x": mean}


def _encoders(preset: LatentwirePreset) -> dict[str, Words]:
    # Longer passages may have more bytes than the byte encoder reads.
    longest = min(preset.longest or 250, 250)
    base = (stage(preset, longest=longest), "compressor.slots.ratio=4")
    names = ("pretrained", "byte", "sentence", "simple", "interlingua", "embeddings")
    return {name: (*base, f"compressor.encoder.name={name}") for name in names}


def _weights(preset: LatentwirePreset) -> dict[str, Words]:
    base = ("compressor.encoder.name=embeddings", "compressor.slots.ratio=4")
    found: dict[str, Words] = {"answer alone": (*base, stage(preset))}
    for term in ("reconstruction", "first_token", "prefix_kd"):
        for weight in (0.1, 1.0):
            losses = f"[{{name='answer'}}, {{name='{term}', weight={weight}}}]"
            found[f"{term} {weight:g}"] = (*base, stage(preset, losses))
    return found


def _annealing(preset: LatentwirePreset) -> dict[str, Words]:
    base = ("compressor.encoder.name=embeddings", "compressor.slots.ratio=4")
    falls = "start_value=1.0, end_value=0.0"
    schedules = {
        "constant": "{}",
        "linear": f"{{shape='linear', {falls}}}",
        "delayed": f"{{shape='linear', begin=0.5, {falls}}}",
        "cosine": f"{{shape='cosine', {falls}}}",
        "gated": f"{{shape='linear', gate=4.0, {falls}}}",
    }
    return {
        name: (
            *base,
            stage(
                preset,
                f"[{{name='answer'}}, {{name='reconstruction', schedule={schedule}}}]",
            ),
        )
        for name, schedule in schedules.items()
    }


def _transforms(preset: LatentwirePreset) -> dict[str, Words]:
    base = (
        "compressor.encoder.name=embeddings",
        "compressor.pooler.name=mean",
        "compressor.pooler.source=embeddings",
        "compressor.slots.ratio=1",
        stage(preset),
    )
    names = ("none", "rms", "batch", "nearest", "anchor_offset", "soft_codebook")
    found: dict[str, Words] = {
        name: (*base, f"compressor.transform.name={name}", UNTRAINED) for name in names
    }
    for name in ("embedding_rms", "batch", "channel"):
        words = (*base, f"compressor.calibration.name={name}")
        found[f"calibration {name}"] = (*words, UNTRAINED)
    # These begin as the identity, or with codes that stand for nothing yet; training also moves the
    # adapter, hence `none`.
    for name in ("none", "batch", "anchor_offset", "soft_codebook"):
        words = (*base, f"compressor.transform.name={name}")
        found[f"{name}, trained"] = words
    words = (*base, "compressor.calibration.name=batch")
    return {**found, "calibration batch, trained": words}


TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "poolers": Table("Do poolers over embeddings without context compress at all?", _poolers),
        "encoders": Table("Which encoder, in the same few steps?", _encoders),
        "weights": Table("Does an auxiliary term help, and at what weight?", _weights),
        "annealing": Table("Does it matter how an auxiliary term goes away?", _annealing),
        "transforms": Table("What do transforms of real text embeddings break?", _transforms),
    }
)
