"""Finding adapters in a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from llgbm.deltas.errors import AdapterError

CONFIG = "adapter_config.json"


def find_adapters(root: Path) -> dict[str, Path]:
    """Return the adapters at or below `root` by id, sorted by id.

    The id is the folder's name; where two share one, the path below `root` with `__`.

    Raises:
        AdapterError: no folder, or no adapter in it.
    """
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise AdapterError(f"{root}: expected a folder of adapters, got {got}")
    folders = sorted(path.parent for path in root.rglob(CONFIG) if _visible(path, root))
    if not folders:
        raise AdapterError(f"{root}: expected folders with {CONFIG}, got none")
    names = Counter(folder.name for folder in folders)
    adapters = {}
    for folder in folders:
        relative = folder.relative_to(root)
        unique = names[folder.name] == 1 or not relative.parts
        adapters[folder.name if unique else "__".join(relative.parts)] = folder
    return dict(sorted(adapters.items()))


def _visible(path: Path, root: Path) -> bool:
    """Half-written folders are hidden: their names begin with a dot."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts)
