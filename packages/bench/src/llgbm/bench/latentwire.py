"""`llgbm-bench latentwire`: a prompt read as latents, against the same prompt read as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from llgbm.bench.latentwire_workload import LatentwireWorkload, bench_reader, passages
from llgbm.bench.memory import peak_mib
from llgbm.bench.results import results_of
from llgbm.bench.timing import Timing, parts_interleaved
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import SettingError, require_at_least, require_seed
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.slots import SlotsConfig

NEVER = "never"
# A row of latents, and the row of text that it is held against.
AGAINST = {
    "latents_prefill": "text_prefill",
    "latents_decode": "text_decode",
    "latents_cached": "text",
    "latents_online": "text",
}


@dataclass(frozen=True)
class LatentwireConfig:
    """Time a prompt as latents against the same prompt as text.

    Args:
        model: a base model, or `random:...` as in delta-forward.
        dtype: of the reader; `auto` is bfloat16 where the hardware has it.
        config: packaged config of latentwire whose compressor is timed: `recipe` (embeddings),
            `cache` (keys and values) or `heads` (of every head its own number).
        ratio: tokens a slot.
        batch: prompts at once.
        tokens: of the passage that is compressed; the question after it stays text.
        new_tokens: of every answer.
        scheme: of the wire: fp16, int8, int6 or int4.
        repeats: rounds; text and latents run once in each.
        out: JSON file of results; nothing is written where not given.
        seed: of passages and of the compressor.
    """

    model: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    config: Literal["recipe", "cache", "heads"] = "recipe"
    ratio: float = 4.0
    batch: tuple[int, ...] = (1, 8)
    tokens: tuple[int, ...] = (64, 256, 1024)
    new_tokens: int = 24
    scheme: Literal["fp16", "int8", "int6", "int4"] = "int8"
    repeats: int = 5
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, sizes in (("batch", self.batch), ("tokens", self.tokens)):
            if not sizes:
                raise SettingError(f"{name}: expected at least one, got none")
            require_at_least(1, **{name: min(sizes)})
        require_at_least(1, ratio=self.ratio, new_tokens=self.new_tokens, repeats=self.repeats)
        require_seed(self.seed)


def latentwire(config: LatentwireConfig) -> dict[str, Any]:
    """Check every case, time all of them, print the table, write the file.

    The compressor is untrained: what it costs does not depend on what it has learned. What parts
    fit once, as the shares of `heads`, is fitted on the longest case's passages. Rows:
    `text_prefill` and `text_decode`, `text` for both; `latents_encode`, `latents_quantise` (pack
    and unpack), `latents_prefill` (adapter included), `latents_decode`, `latents_cached` for the
    last two and `latents_online` for all. Tokens a second are the passage's for encoding and
    quantising, those of the prompt as text for either prefill, and new ones else. The peak of a
    decode includes the prefill before it.

    Raises:
        OtherTokensError: replayed embeddings do not write what the text does, keys and values of
            every position are read otherwise than the text, or the wire is not its own inverse;
            nothing is timed.
        ConfigError: `heads` with a reader whose layers look back a window only.
        ModelError: a tokenizer that gives no passage of that many tokens back.
    """
    reader = bench_reader(config.model, config.dtype, config.seed)
    slots = SlotsConfig(config.ratio, largest=max(512, *config.tokens))
    parts = replace(read_config(config.config).compressor, slots=slots)
    compressor = Compressor(parts, reader, config.seed)
    compressor.fit(passages(reader, max(config.batch), max(config.tokens), config.seed))
    workloads = {
        (batch, tokens): LatentwireWorkload(
            reader,
            compressor,
            passages(reader, batch, tokens, config.seed),
            config.new_tokens,
            config.scheme,
        )
        for batch in config.batch
        for tokens in config.tokens
    }
    for workload in workloads.values():
        workload.check()
    scale = (
        f"{config.model}, untrained compressor `{config.config}` of {config.ratio:g} tokens a slot"
    )
    print(f"{scale}, {config.scheme}, {config.new_tokens} new tokens")
    cases = [measured(workload, config.repeats) for workload in workloads.values()]
    results = results_of(
        "latentwire", config, reader.device, reader.dtype, scale=scale, cases=cases
    )
    if config.out is not None:
        write_json(config.out, results)
    return results


def measured(workload: LatentwireWorkload, repeats: int) -> dict[str, Any]:
    """One case: rows, their ratios to text, and the break-even; printed too."""
    batch, tokens = len(workload.texts), len(workload.contexts[0])
    peaks = peaks_of(workload)
    timings = parts_interleaved((workload.time_text, workload.time_latents), repeats)
    counted = {
        "latents_encode": batch * tokens,
        "latents_quantise": batch * tokens,
        "text_prefill": batch * workload.prompt_tokens,
        "latents_prefill": batch * workload.prompt_tokens,
    }
    rows = {
        name: {
            **asdict(timing),
            "peak_mib": peaks[name],
            "tokens_per_s": counted.get(name, batch * workload.new_tokens) / timing.median_ms * 1e3,
        }
        for name, timing in timings.items()
    }
    case = {
        "batch": batch,
        "tokens": tokens,
        "slots": workload.slots,
        "rows": rows,
        "times_text": times_text(timings),
        "break_even_reuses": break_even(
            timings["latents_encode"].median_ms,
            timings["text_prefill"].median_ms,
            timings["latents_prefill"].median_ms,
        ),
    }
    print_case(case)
    return case


def peaks_of(workload: LatentwireWorkload) -> dict[str, float]:
    """Peak MiB of every row; a whole's is that of its largest part."""
    works: Mapping[str, Callable[[], object]] = {
        "text_prefill": partial(workload.read_text, 1),
        "text_decode": partial(workload.read_text, workload.new_tokens),
        "latents_encode": workload.encode,
        "latents_quantise": partial(workload.sent, workload.latents),
        "latents_prefill": partial(workload.read_latents, workload.latents, 1),
        "latents_decode": partial(workload.read_latents, workload.latents, workload.new_tokens),
    }
    peaks = {name: peak_mib(work) for name, work in works.items()}
    text = max(peaks["text_prefill"], peaks["text_decode"])
    cached = max(peaks["latents_prefill"], peaks["latents_decode"])
    online = max(cached, peaks["latents_encode"], peaks["latents_quantise"])
    return {**peaks, "text": text, "latents_cached": cached, "latents_online": online}


def times_text(timings: Mapping[str, Timing]) -> dict[str, float]:
    """Medians of latents over those of text."""
    return {
        name: timings[name].median_ms / timings[text].median_ms for name, text in AGAINST.items()
    }


def break_even(encode: float, text_prefill: float, latents_prefill: float) -> float | str:
    """Times that a cached latent must be read before it was worth encoding.

    Args:
        encode: time that encoding takes, once.
        text_prefill: time that reading the text takes, every time.
        latents_prefill: time that reading latents takes, every time.

    Returns:
        A number of reuses, or `never` where reading latents is no faster.
    """
    saved = text_prefill - latents_prefill
    return encode / saved if saved > 0 else NEVER


def even_in_words(reuses: float | str) -> str:
    """The break-even in words."""
    return f"even {NEVER}" if reuses == NEVER else f"even after {reuses:.1f} reuses"


def print_case(case: Mapping[str, Any]) -> None:
    """Print one case as a table."""
    print(
        f"\nbatch {case['batch']}, {case['tokens']} tokens in {case['slots']} slots: "
        f"{even_in_words(case['break_even_reuses'])}"
    )
    for name, row in case["rows"].items():
        ratio = case["times_text"].get(name)
        print(
            f"{name:<18}{row['median_ms']:>10.2f} ms{row['tokens_per_s']:>10.0f} tokens/s"
            f"{row['peak_mib']:>9.1f} MiB" + ("" if ratio is None else f"{ratio:>7.2f} x text")
        )
