"""`llgbm-bench generate`: adapters a second from conditions, and onto the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from llgbm.bench.errors import GateError
from llgbm.bench.generator_workload import CONDITION_TEXTS
from llgbm.bench.memory import peak_mib
from llgbm.bench.models import bench_model
from llgbm.bench.results import results_of
from llgbm.bench.timing import interleaved
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.spec import LoRASpec, device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.generator import GeneratorConfig, LoRAGenerator

# Adapters that are also written as PEFT folders.
WRITTEN = 2


@dataclass(frozen=True)
class GenerateConfig:
    """Time a generator writing adapters, from embedded conditions.

    Args:
        model: whose shapes the adapters are for; see delta-forward.
        n: conditions at once.
        r: rank.
        codes: of the full-width decoder.
        repeats: rounds.
        out: JSON file of results; nothing is written where not given.
        seed: of everything random.
        dtype: of the base, whose shapes alone matter here.
    """

    model: str = "smollm2-135m"
    n: int = 16
    r: int = 8
    codes: int = 12
    repeats: int = 5
    out: Path | None = None
    seed: int = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def __post_init__(self) -> None:
        require_at_least(1, n=self.n, r=self.r, codes=self.codes, repeats=self.repeats)
        require_seed(self.seed)


def generate(config: GenerateConfig) -> dict[str, Any]:
    """Check batched against one by one, time both, print the table, write the file.

    Raises:
        GateError: the two ways write other adapters.
    """
    model = bench_model(config.model, config.dtype, config.seed)
    device = device_of(model)
    spec = LoRASpec.from_model(model, config.r, 2.0 * config.r)
    decoder = FullWidthConfig(codes=config.codes)
    generator = LoRAGenerator(GeneratorConfig(decoder=decoder), spec, (1,), config.seed)
    torch.nn.init.ones_(generator.decoder.gain_B.bias)  # type: ignore[union-attr, arg-type]
    generator = generator.to(device).eval()
    random = torch.Generator().manual_seed(config.seed)
    embeddings = torch.randn(config.n, CONDITION_TEXTS, 384, generator=random) / 384**0.5
    mask = torch.ones(config.n, CONDITION_TEXTS, dtype=torch.bool)
    conditions = ConditionBatch(embeddings, mask).to(device)

    def one_by_one() -> LoRAWeights:
        return LoRAWeights.concatenate(
            [generator.write(conditions.select([i])) for i in range(config.n)]
        )

    together, apart = generator.write(conditions), one_by_one()
    error = max(
        float((together.lora_B[p] - apart.lora_B[p]).norm() / apart.lora_B[p].norm())
        for p in spec.paths
    )
    # Sums of float32 in another order.
    if not error <= 1e-4:
        raise GateError("batched", 1e-4, torch.float32, error)
    written_count = min(WRITTEN, config.n)
    with tempfile.TemporaryDirectory() as folder:
        written = together.select(range(written_count)).to("cpu")
        works: dict[str, tuple[Callable[[], object], int]] = {
            "batched": (partial(generator.write, conditions), config.n),
            "one_by_one": (one_by_one, config.n),
            "written_to_disk": (partial(_write, written, Path(folder)), written_count),
        }
        plain = {name: work for name, (work, _) in works.items()}
        peaks = {name: peak_mib(work) for name, work in plain.items()}
        timings = interleaved(plain, config.repeats)
    rows = {
        name: {
            **asdict(timing),
            "peak_mib": peaks[name],
            "adapters_per_s": works[name][1] / timing.median_ms * 1e3,
            "relative_error": error if name == "batched" else None,
        }
        for name, timing in timings.items()
    }
    results = results_of("generate", config, device, next(model.parameters()).dtype, rows=rows)
    print(f"{config.model}: adapters of r={config.r} from conditions, n={config.n}")
    for name, row in rows.items():
        print(
            f"{name:<18}{row['median_ms']:>10.1f} ms{row['adapters_per_s']:>10.1f} adapters/s"
            f"{row['peak_mib']:>9.0f} MiB"
        )
    if config.out is not None:
        write_json(config.out, results)
    return results


def _write(weights: LoRAWeights, folder: Path) -> None:
    for i in range(weights.n):
        save_adapter(weights.select([i]), folder / str(i), "bench")
