"""Result files of experiments: a dataclass, checked against its own fields when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import cattrs

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json

T = TypeVar("T")


def read_result(path: Path, result: type[T], schema: int, kind: str, words: str) -> T:
    """Read a file that holds `schema`, `kind` and the fields of a dataclass.

    Args:
        path: of the file.
        result: the dataclass.
        schema: that its fields have.
        kind: of the experiment.
        words: what was expected, for the error.

    Raises:
        RunError: missing, malformed or of another kind.
    """
    content = read_json(path, RunError)
    found = (content.pop("schema", None), content.pop("kind", None))
    if found != (schema, kind):
        raise RunError(mismatch(path, "schema and kind", (schema, kind), found))
    try:
        return cattrs.structure(content, result)
    except cattrs.BaseValidationError as error:
        said = "; ".join(cattrs.transform_error(error))
        raise RunError(f"{path}: expected {words}, got {said}") from error
