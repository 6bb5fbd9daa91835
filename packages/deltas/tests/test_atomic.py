import errno
import os
from pathlib import Path

import pytest

from llgbm.deltas import atomic


def test_writes_replace_whole_files(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.json"
    atomic.write_json(file, {"a": [1]})
    atomic.write_json(file, {"a": [2]})
    assert file.read_text() == '{\n  "a": [\n    2\n  ]\n}\n'
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error) -> None:
    file = tmp_path / "a.txt"
    atomic.write_text(file, "old")

    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        atomic.write_text(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_unfinished_folder_vanishes(tmp_path: Path, error) -> None:
    target = tmp_path / "adapter"
    with pytest.raises(error), atomic.folder(target) as temporary:
        (temporary / "half").write_text("x")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    for text in ("one", "two"):
        with atomic.folder(target) as temporary:
            (temporary / text).write_text(text)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    with pytest.raises(FileExistsError), atomic.folder(target, replace=False):
        pass


def test_a_file_that_cannot_be_written_is_named_by_its_own_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        atomic.write_text(tmp_path / "out", "new")
    assert caught.value.filename == str(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full") as caught, atomic.folder(tmp_path / "a") as temporary:
        atomic.write_text(temporary / "b.txt", "new")
    assert caught.value.filename == str(tmp_path / "a" / "b.txt")
    assert caught.value.errno == errno.ENOSPC


def test_an_oserror_of_something_else_keeps_its_file(tmp_path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic.folder(tmp_path / "a"):
        (tmp_path / "none").read_text()
    assert caught.value.filename == str(tmp_path / "none")
