"""Atomic writes: a file or folder is there whole, or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save
from torch import Tensor


def _temporary(path: Path) -> Path:
    """Name of a hidden sibling that no other writer uses."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    """Make a rename in `path`'s folder last through a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, making its folder where needed.

    Raises:
        OSError: disk full, no permission; names `path`, which is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # Nobody knows the temporary file.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync(path)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, content: object) -> None:
    """Write `content` as indented JSON; NaN and Inf are refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def save_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; see `write_bytes`."""
    contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, dict(metadata) if metadata else None))


@contextmanager
def folder(path: Path | str, replace: bool = True) -> Iterator[Path]:
    """Yield an empty sibling folder that becomes `path` when the block ends well.

    On any exception, Ctrl-C included, it vanishes and `path` is as it was; an OSError within it
    names its place in `path`.

    Args:
        path: the folder to make.
        replace: put it in the place of one that exists; else FileExistsError.
    """
    path = Path(path)
    if path.exists() and not replace:
        raise FileExistsError(17, "folder exists", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    old: Path | None = None
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            # A folder cannot be replaced in one step: the old one steps aside and comes back
            # should the rename fail.
            old = _temporary(path)
            path.rename(old)
        try:
            temporary.rename(path)
        except BaseException:
            if old is not None:
                old.rename(path)
            raise
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and str(temporary) in str(error.filename):
            final = str(error.filename).replace(str(temporary), str(path))
            raise OSError(error.errno, error.strerror, final) from error
        raise
    _sync(path)
    if old is not None:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
