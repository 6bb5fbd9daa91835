"""Compile every dispatched configuration for GPUs that need not be there, and read the result.

    python -m llgbm.lora_kernels.compile_report --out FILE

Needs Triton, no GPU. Registers, spills and shared memory are read from the compiled binary.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from llgbm.lora_kernels.configurations import (
    ITEMS,
    TARGETS,
    Configuration,
    Target,
    configurations,
)

BLOCKS = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "BLOCK_R")
# Sizes of a model are multiples of 16, and so are the strides of its matrices.
ALIGNED = ("k", "out", "x_m", "u_m", "y_m", "y_s", "g_s", "g_n", "g_r")


@dataclass(frozen=True)
class Compiled:
    """What became of a configuration.

    Attributes:
        target: name.
        kernel, dtype, tiles, flags: the configuration.
        registers: of a thread.
        spill_bytes: of a thread, kept in local memory.
        shared_bytes: of a program.
        matrix_instruction: the widest matrix instruction in the code, or "".
    """

    target: str
    kernel: str
    dtype: str
    tiles: dict[str, int]
    flags: dict[str, Any]
    registers: int
    spill_bytes: int
    shared_bytes: int
    matrix_instruction: str


def compile_one(target: Target, configuration: Configuration) -> Compiled:
    """Compile for `target` and read the binary."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as triton_compile

    name = configuration.kernel
    kernel = getattr(import_module(f"llgbm.lora_kernels.kernels.{name}"), f"{name}_kernel")
    tiles = configuration.tiles
    values = dict(configuration.flags)
    values |= {block: getattr(tiles, block.lower()) for block in BLOCKS}
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for index, argument in enumerate(kernel.arg_names):
        if argument in values:
            signature[argument] = "constexpr"
            constants[(index,)] = values[argument]
            continue
        signature[argument] = _kind(name, argument, configuration.dtype)
        if signature[argument].startswith("*") or argument in ALIGNED:
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton_compile(
        source,
        target=GPUTarget(target.backend, target.arch, target.warp),
        options={"num_warps": tiles.num_warps, "num_stages": tiles.num_stages},
    )
    read = _read_cubin if target.backend == "cuda" else _read_amdgcn
    return Compiled(
        target.name,
        name,
        configuration.dtype,
        asdict(tiles),
        dict(configuration.flags),
        *read(compiled),
    )


def _kind(kernel: str, argument: str, dtype: str) -> str:
    """Type of an argument: factors, scaling and gradients float32, the rest as activations."""
    if argument in ("offsets_ptr", "ranks_ptr"):
        return "*i64"
    if argument == "scale_ptr" or argument == "g_ptr" or re.fullmatch(r"w\d?_ptr", argument):
        return "*fp32"
    return f"*{dtype}" if argument.endswith("_ptr") else "i32"


def _read_cubin(compiled: Any) -> tuple[int, int, int, str]:
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        text = subprocess.run(
            [str(tool), "--dump-resource-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    usage = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    ptx = compiled.asm["ptx"]
    found = [word for word in ("tcgen05.mma", "wgmma", "mma.sync") if word in ptx]
    return (
        usage["REG"],
        usage["STACK"] + usage["LOCAL"],
        compiled.metadata.shared,
        found[0] if found else "",
    )


def _read_amdgcn(compiled: Any) -> tuple[int, int, int, str]:
    text = compiled.asm["amdgcn"]

    def number(key: str) -> int:
        found = re.search(rf"\.{key}:\s*(\d+)", text)
        assert found is not None, key
        return int(found.group(1))

    spills = 4 * number("vgpr_spill_count") + number("private_segment_fixed_size")
    matrix = "mfma" if "v_mfma" in text else ""
    return number("vgpr_count"), spills, compiled.metadata.shared, matrix


def _work(item: tuple[str, Configuration]) -> Compiled:
    return compile_one(TARGETS[item[0]], item[1])


def compile_all(targets: Sequence[str], dtypes: tuple[str, ...], processes: int) -> list[Compiled]:
    """Compile all configurations of the targets, in their order.

    Raises:
        ValueError: in Triton's interpreter, which compiles nothing.
    """
    if os.environ.get("TRITON_INTERPRET", "0") == "1":
        raise ValueError("TRITON_INTERPRET: expected 0 to compile, got 1")
    items = [(name, c) for name in targets for c in configurations(TARGETS[name], dtypes)]
    found = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for one in pool.map(_work, items, chunksize=4):
            found.append(one)
            if len(found) % 50 == 0 or len(found) == len(items):
                print(f"compiled {len(found)} of {len(items)}", file=sys.stderr, flush=True)
    return found


def faults(compiled: Sequence[Compiled]) -> list[str]:
    """What must not be: spills, too much shared memory, a matrix tile without its instruction."""
    found = []
    for one in compiled:
        place = f"{one.target} {one.kernel} {one.dtype} {one.tiles} {one.flags}"
        if one.spill_bytes:
            found.append(f"{place}: {one.spill_bytes} bytes spilled")
        if one.shared_bytes > TARGETS[one.target].shared_limit:
            found.append(f"{place}: {one.shared_bytes} bytes of shared memory")
        matrix_tile = one.kernel == "fused" and one.dtype != "fp32"
        if matrix_tile and one.target == "sm_90" and one.matrix_instruction != "wgmma":
            found.append(f"{place}: no wgmma")
    return found


def table(compiled: Sequence[Compiled]) -> list[dict[str, Any]]:
    """One row a target, kernel and dtype: how many, and the worst of each figure."""
    rows: dict[tuple[str, str, str], list[Compiled]] = {}
    for one in compiled:
        rows.setdefault((one.target, one.kernel, one.dtype), []).append(one)
    return [
        {
            "target": target,
            "kernel": kernel,
            "dtype": dtype,
            "configurations": len(found),
            "registers": max(one.registers for one in found),
            "spill_bytes": max(one.spill_bytes for one in found),
            "shared_kib": max(one.shared_bytes for one in found) / 1024,
            "shared_limit_kib": TARGETS[target].shared_limit / 1024,
            "matrix_instructions": sorted({one.matrix_instruction for one in found}),
        }
        for (target, kernel, dtype), found in rows.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command: print the table, write it, return 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--dtypes", nargs="+", default=list(ITEMS), choices=list(ITEMS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    compiled = compile_all(given.targets, tuple(given.dtypes), given.processes)
    rows = table(compiled)
    for row in rows:
        print(
            f"{row['target']:<8}{row['kernel']:<8}{row['dtype']:<6}{row['configurations']:>4} "
            f"configurations, {row['registers']:>3} registers, {row['spill_bytes']} bytes "
            f"spilled, {row['shared_kib']:.0f} of {row['shared_limit_kib']:.0f} KiB shared, "
            f"{', '.join(name or 'no matrix instruction' for name in row['matrix_instructions'])}"
        )
    found = faults(compiled)
    for fault in found:
        print(fault, file=sys.stderr)
    if given.out is not None:
        import triton

        content = {"suite": "compile", "triton": triton.__version__, "rows": rows, "faults": found}
        given.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
