"""Training in several processes: each holds a share of every step, the losses are those of one."""

import os
import socket
import subprocess
import sys

import pytest

from llgbm.deltas.metrics_log import read_metrics
from llgbm.generators.cli import CONSOLE


def launch(*arguments: str) -> subprocess.CompletedProcess:
    """Run `python -m llgbm.generators` in two processes on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # With --cpu, accelerate starts one process, whatever their number, unless it has MPI;
    # --multi_gpu starts as many as asked for, which the variable keeps on the CPU.
    return subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
            "--num_processes", "2", "--num_machines", "1", "--main_process_port", port,
            "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "llgbm.generators",
            *arguments,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip


def test_two_processes_have_the_losses_of_one(run_copy, train_command) -> None:
    more = ["--sft-examples", "2"]
    losses = ["--objective.lambda-sft", "0.5", "--objective.lambda-kl", "0.5"]
    assert CONSOLE.run([*train_command(run_copy, "one", *more), *losses]) == 0
    done = launch(*train_command(run_copy, "two", *more), *losses)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        read_metrics(run_copy / "generators" / name / "metrics.jsonl") for name in ("one", "two")
    )
    assert len(one) == len(two) == 9
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        # Sums of another order differ by rounding, which AdamW's first steps magnify where a
        # gradient is close to nothing; before the fifth step all six decimals agree.
        near = 1e-5 if first["step"] < 5 else 2e-3
        for key in first.keys() - {"split"}:
            assert first[key] == pytest.approx(second[key], rel=near, abs=2e-6), key
    # Each of two processes took half of every batch.
    assert "2 processes" in done.stderr + done.stdout


@pytest.mark.parametrize("objective", [("multi-task", "lambda-delta", "0"), ("delta-only",)])
def test_parts_that_an_objective_does_not_train_do_not_stop_two_processes(
    run_copy, train_command, objective
) -> None:
    arguments = train_command(run_copy, "two")
    arguments = arguments[: arguments.index("objective:delta-guided")]
    kind, *options = objective
    more = [f"--objective.{options[0]}", options[1]] if options else []
    assert CONSOLE.run([*arguments[:4], "one", *arguments[5:], f"objective:{kind}", *more]) == 0
    done = launch(*arguments, f"objective:{kind}", *more)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        [
            r["loss"]
            for r in read_metrics(run_copy / "generators" / name / "metrics.jsonl")
            if "loss" in r
        ]
        for name in ("one", "two")
    )
    assert len(one) == 6
    assert one == pytest.approx(two, rel=2e-3)


def test_a_batch_that_cannot_be_shared_is_refused(run_copy, train_command) -> None:
    arguments = train_command(run_copy, "odd")
    arguments[arguments.index("--batch-size") + 1] = "3"
    done = launch(*arguments)
    assert done.returncode != 0
    assert "batch_size: expected a multiple of the 2 processes, got 3" in done.stderr
    assert not (run_copy / "generators" / "odd").exists()
