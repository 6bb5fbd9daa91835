"""Every dispatched configuration compiles for GPUs that this machine need not have."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from llgbm.lora_kernels.backends import has_triton
from llgbm.lora_kernels.compile_report import Compiled, faults, table
from llgbm.lora_kernels.configurations import ITEMS, TARGETS, configurations

triton_only = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")


def report(tmp_path, *arguments: str) -> subprocess.CompletedProcess:
    # A process of its own: the tests around this one run kernels in the interpreter.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "llgbm.lora_kernels.compile_report", *arguments]
    command += ["--out", str(tmp_path / "compile.json")]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@triton_only
@pytest.mark.parametrize("target", list(TARGETS))
def test_no_spills_shared_memory_in_bounds_and_matrix_instructions(tmp_path, target) -> None:
    done = report(tmp_path, "--targets", target, "--dtypes", "bf16")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    content = json.loads((tmp_path / "compile.json").read_text())
    assert content["faults"] == []
    rows = {row["kernel"]: row for row in content["rows"]}
    assert set(rows) == {"shrink", "expand", "outer", "fused"}
    assert all(row["spill_bytes"] == 0 for row in rows.values())
    assert all(row["shared_kib"] <= row["shared_limit_kib"] for row in rows.values())
    if target == "sm_90":
        assert rows["fused"]["matrix_instructions"] == ["wgmma"]


@triton_only
def test_other_dtypes_compile_for_one_target(tmp_path) -> None:
    done = report(tmp_path, "--targets", "sm_90", "--dtypes", "fp16", "fp32")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_the_configurations_cover_kernels_dtypes_ranks_and_flags() -> None:
    for target in TARGETS.values():
        found = configurations(target)
        assert len(found) == len(set(found))
        for kernel in ("shrink", "expand", "outer", "fused"):
            mine = [c for c in found if c.kernel == kernel]
            assert {c.dtype for c in mine} == set(ITEMS)
            assert {dict(c.flags)["RAGGED"] for c in mine} == {False, True}
            blocks = {c.tiles.block_r for c in mine}
            most = {"shrink": 128, "outer": 64, "expand": 32, "fused": 32}[kernel]
            assert blocks == {b for b in (16, 32, 64, 128) if b <= most}


GOOD = Compiled("sm_90", "fused", "bf16", {"block_m": 128}, {}, 200, 0, 1000, "wgmma")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spill_bytes": 8}, "8 bytes spilled"),
        ({"shared_bytes": 300_000}, "300000 bytes of shared memory"),
        ({"matrix_instruction": "mma.sync"}, "no wgmma"),
    ],
)
def test_faults_are_found(change, words) -> None:
    assert faults([GOOD]) == []
    (fault,) = faults([replace(GOOD, **change)])
    assert words in fault
    assert "sm_90 fused bf16" in fault


def test_the_table_shows_the_worst() -> None:
    (row,) = table([GOOD, replace(GOOD, registers=255, shared_bytes=2048, spill_bytes=4)])
    assert (row["configurations"], row["registers"], row["spill_bytes"]) == (2, 255, 4)
    assert row["shared_kib"] == 2


@triton_only
def test_the_interpreter_is_refused(tmp_path) -> None:
    command = [sys.executable, "-m", "llgbm.lora_kernels.compile_report"]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "TRITON_INTERPRET: expected 0 to compile" in done.stderr
