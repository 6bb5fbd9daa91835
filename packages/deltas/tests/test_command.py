import errno

import pytest

from llgbm.deltas.command import run_command
from llgbm.deltas.console import Console, Subcommand
from llgbm.deltas.errors import AdapterError, RunError
from llgbm.deltas.json_files import read_json


def failing(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (AdapterError("a.json: r: expected 8, got 4"), 2, "error: a.json: r: expected 8, got 4"),
        (AdapterError("two\nlines"), 2, "error: two lines"),
        (KeyboardInterrupt(), 130, "interrupted: run the same command again to go on"),
        (OSError(errno.ENOSPC, "x", "f.bin"), 2, "error: disk full while writing f.bin"),
        (PermissionError(errno.EACCES, "x", "f.bin"), 2, "error: f.bin: Permission denied"),
    ],
)
def test_an_error_is_one_line_and_a_code(error, code, words, capsys) -> None:
    assert run_command(failing(error)) == code
    printed = capsys.readouterr().err
    assert printed.startswith(words)
    assert printed.count("\n") == 1


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(TypeError):
        run_command(failing(TypeError("bug")))


def test_success_is_zero() -> None:
    assert run_command(lambda: 1) == 0


def test_an_unknown_command_names_the_nearest(capsys) -> None:
    console = Console("x", "llgbm-deltas", "s", {"compute": Subcommand("m", "c", "f", "words")})
    assert console.run(["compite"]) == 2
    assert "did you mean 'compute'" in capsys.readouterr().err
    assert console.run(["--help"]) == 0
    assert "compute  words" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "line 1, column 2"),
        (b"[1]", "a JSON object, got list"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 100_000, "content: expected JSON, got maximum recursion depth"),
        (b'{"a": ' + b"1" * 5000 + b"}", "content: expected JSON, got Exceeds the limit"),
        (None, "not found"),
    ],
)
def test_malformed_json_names_the_file_and_the_place(tmp_path, content, words) -> None:
    file = tmp_path / "m.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunError, match=words) as caught:
        read_json(file, RunError)
    assert str(file) in str(caught.value)


def test_a_program_inside_a_program_takes_the_rest(capsys) -> None:
    inner = Console("x y", "llgbm-deltas", "inside", {"go": Subcommand("m", "c", "f", "words")})
    outer = Console("x", "llgbm-deltas", "outside", {"y": inner})
    assert outer.run(["--help"]) == 0
    assert "y  inside" in capsys.readouterr().out
    assert outer.run(["y", "--help"]) == 0
    assert "usage: x y COMMAND" in capsys.readouterr().out
    assert outer.run(["y", "stop"]) == 2
    assert "expected go, got 'stop'" in capsys.readouterr().err
