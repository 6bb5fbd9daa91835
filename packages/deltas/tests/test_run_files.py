"""Files that a run keeps for itself, damaged: metrics, states, modules."""

import json

import pytest
import torch
from torch import nn

from llgbm.deltas.errors import RunError
from llgbm.deltas.metrics_log import MetricsLog, read_metrics
from llgbm.deltas.module_files import check_pair, fill_module, read_module_config, write_module
from llgbm.deltas.tensor_state import read_tensors


def test_records_are_read_back_and_those_that_will_be_redone_are_dropped(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1 / step})
    MetricsLog(path, 2)
    assert read_metrics(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    with path.open("a") as file:
        file.write('{"step": 3, "lo')  # the process was killed here
    assert [record["step"] for record in read_metrics(path)] == [1, 2]
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\n", "text: expected UTF-8, got byte 0"),
        (b"[" * 100_000 + b'\n{"step": 1}\n', "line 1: expected JSON"),
        (b"9" * 5_000 + b'\n{"step": 1}\n', "line 1: expected JSON"),
        (b'{"step": 1}\n{\n{"step": 2}\n', "line 2: expected JSON"),
        (b'{"step": "1"}\n', "line 1: expected an object with a whole number `step`"),
        (b"3\n", "line 1: expected an object with a whole number `step`"),
    ],
)
def test_damaged_metrics_are_told(tmp_path, content, told) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=told):
        read_metrics(path)


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path) -> None:
    for read in (read_metrics, read_tensors, lambda path: check_pair(path, {})):
        with pytest.raises(RunError, match=str(tmp_path)):
            read(tmp_path)


def test_a_module_is_read_back_and_checked(tmp_path) -> None:
    torch.manual_seed(0)
    module, description = nn.Linear(3, 2), {"kind": "linear", "sizes": [3, 2]}
    write_module(module, tmp_path, "linear.safetensors", description, {"made_by": "a test"})
    content, metadata = read_module_config(tmp_path, "nothing")
    assert (content, metadata) == (description, {"made_by": "a test"})
    file = tmp_path / "linear.safetensors"
    check_pair(file, content)
    other = nn.Linear(3, 2)
    fill_module(other, file)
    assert torch.equal(other.weight, module.weight)
    with pytest.raises(RunError, match="belong to different generators"):
        check_pair(file, {**description, "sizes": [3, 3]})
    with pytest.raises(RunError, match=r"weight: expected torch.float32 \(2, 4\)"):
        fill_module(nn.Linear(4, 2), file)
    with pytest.raises(RunError, match="missing .*0.weight.*extra"):
        fill_module(nn.Sequential(nn.Linear(3, 2)), file)
    file.write_bytes(file.read_bytes()[:50])
    for read in (read_tensors, lambda path: check_pair(path, content)):
        with pytest.raises(RunError, match="not a whole safetensors file"):
            read(file)
    (tmp_path / "config.json").write_text(json.dumps({**description, "metadata": 3}))
    with pytest.raises(RunError, match="metadata: expected an object, got int"):
        read_module_config(tmp_path, "nothing")
    with pytest.raises(RunError, match="not found: run `nothing` first"):
        read_module_config(tmp_path / "x", "nothing")
