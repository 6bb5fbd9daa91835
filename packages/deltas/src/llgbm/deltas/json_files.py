"""Reading JSON with errors that name the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llgbm.deltas.errors import LLGBMError, mismatch


def read_json(path: Path | str, error: type[LLGBMError]) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: file.
        error: class to raise.

    Raises:
        LLGBMError: of class `error`: no such file, not UTF-8, malformed, or not an object.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise error(f"{path}: not found") from cause
    except UnicodeDecodeError as cause:
        raise error(mismatch(path, "text", "UTF-8", f"byte {cause.start} that is not")) from cause
    except json.JSONDecodeError as cause:
        where = f"line {cause.lineno}, column {cause.colno}"
        raise error(mismatch(path, where, "JSON", cause.msg)) from cause
    except (RecursionError, ValueError) as cause:  # nested too deep, or a number too long
        raise error(mismatch(path, "content", "JSON", cause)) from cause
    if not isinstance(content, dict):
        raise error(mismatch(path, "content", "a JSON object", type(content).__name__))
    return content
