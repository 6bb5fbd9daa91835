"""One command in several processes: the work is shared, and the result has the same bits."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llgbm.deltas.errors import SettingError
from llgbm.deltas.peft_format import save_adapter
from llgbm.deltas.processes import Processes


@pytest.fixture
def store(saved_model, make_tiny_model, make_weights, tmp_path) -> Path:
    """Return a folder of five adapters, of two ranks, and one full model."""
    for r, ids in ((4, (0, 1, 2)), (2, (3, 4))):
        weights = make_weights(make_tiny_model(), n=len(ids), r=r)
        for place, index in enumerate(ids):
            path = tmp_path / "store" / f"a{index}"
            save_adapter(weights.select([place]), path, str(saved_model))
    make_tiny_model(seed=1).save_pretrained(tmp_path / "store" / "full")
    return tmp_path / "store"


def launch(processes: int, *arguments: str) -> subprocess.CompletedProcess:
    """Run `python -m llgbm.deltas`, under accelerate launch where there are several processes."""
    # As many threads either way: the order in which products add up may depend on it.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launcher = []
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        # With --cpu, accelerate starts one process, whatever their number, unless it has MPI;
        # --multi_gpu starts as many as asked for, which the variable above keeps on the CPU.
        launcher = ["-m", "accelerate.commands.launch", "--multi_gpu"]
        launcher += ["--num_processes", str(processes), "--num_machines", "1"]
        launcher += ["--main_process_port", port, "--mixed_precision", "no"]
        launcher += ["--dynamo_backend", "no"]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "llgbm.deltas", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix}


def test_two_processes_write_the_bits_of_one_and_one_of_them_prints(
    store, saved_model, tmp_path
) -> None:
    folders = []
    for processes in (1, 2):
        folders.append(tmp_path / f"by{processes}")
        arguments = ["compute", str(store), "--base-model", str(saved_model)]
        arguments += ["--out", str(folders[-1]), "--adapters-per-forward", "2", "--probes", "math"]
        done = launch(processes, *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("6 computed, 0 reused") == 1
        assert done.stdout.count("median") == 1
        assert ("by 2 processes" in done.stdout) == (processes == 2)
    one, two = map(files, folders)
    assert len([name for name in one if name.endswith(".npy")]) == 7
    assert one == two


def test_an_error_is_one_line_of_the_main_process(store, saved_model) -> None:
    (store / "a3" / "adapter_config.json").write_text("{")
    done = launch(2, "compute", str(store), "--base-model", str(saved_model))
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "a3/adapter_config.json: line 1" in lines[0]
    assert not (store / "deltas").exists()


def test_shares_cover_the_work_once() -> None:
    shares = [Processes(index, 3).share(range(8)) for index in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_alone_needs_nobody() -> None:
    def fail() -> None:
        raise SettingError("no")

    alone = Processes()
    assert alone.is_main
    assert alone.on_main(lambda: 3) == 3
    assert alone.on_each(lambda: 4) == 4
    assert alone.gathered(5) == [5]
    with pytest.raises(SettingError, match="no"):
        alone.on_main(fail)
