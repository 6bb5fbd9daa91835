import sys

import pytest

from llgbm.deltas.arrow_files import read_arrow
from llgbm.deltas.errors import MissingPackageError, TaskError
from llgbm.deltas.packaged import evaluation_data


@pytest.fixture
def copa_bytes() -> bytes:
    (path,) = evaluation_data("super_glue/copa").glob("*/*.arrow")
    return path.read_bytes()


def test_rows_come_by_column_name(tmp_path, copa_bytes) -> None:
    path = tmp_path / "data.arrow"
    path.write_bytes(copa_bytes)
    rows = read_arrow(path)
    assert len(rows) == 100
    assert rows[0] == {
        "premise": "The man turned on the faucet.",
        "choice1": "The toilet filled with water.",
        "choice2": "Water flowed from the spout.",
        "question": "effect",
        "idx": 0,
        "label": 1,
    }


def test_a_missing_pyarrow_names_the_pip_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match="pip install pyarrow"):
        read_arrow(tmp_path / "data.arrow")


@pytest.mark.parametrize("keep", [0, 3, 8, 200, 0.5, 0.99, -1, -8])
def test_a_truncated_file_is_told(tmp_path, copa_bytes, keep) -> None:
    # Without its last 8 bytes, the end of stream, every row could still be read.
    size = int(keep * len(copa_bytes)) if isinstance(keep, float) else keep
    path = tmp_path / "data.arrow"
    path.write_bytes(copa_bytes[:size])
    with pytest.raises(TaskError, match="expected a whole Arrow IPC stream") as caught:
        read_arrow(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_offsets_outside_their_buffer_are_told(tmp_path, copa_bytes) -> None:
    # The first text column's offsets: 0 and the length of the first premise.
    length = len("The man turned on the faucet.")
    offsets = bytes(4) + length.to_bytes(4, "little")
    at = copa_bytes.index(offsets) + 4
    path = tmp_path / "data.arrow"
    path.write_bytes(copa_bytes[:at] + b"\xff\xff\xff\x7f" + copa_bytes[at + 4 :])
    with pytest.raises(TaskError, match="expected a whole Arrow IPC stream"):
        read_arrow(path)


def test_a_missing_file_is_told(tmp_path) -> None:
    with pytest.raises(TaskError, match="data.arrow"):
        read_arrow(tmp_path / "data.arrow")
