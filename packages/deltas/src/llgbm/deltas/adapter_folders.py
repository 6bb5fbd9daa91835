"""Finding adapters, and full models tuned from the base, in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from llgbm.deltas.errors import AdapterError, ModelError

CONFIG, MODEL_CONFIG = "adapter_config.json", "config.json"
MODEL_WEIGHTS = "model*.safetensors"


def find_adapters(root: Path) -> dict[str, Path]:
    """Return the adapters at or below `root` by id, sorted by id.

    The id is the folder's name; where two share one, the path below `root` with `__`.

    Raises:
        AdapterError: no folder, no adapter in it, or two of one id.
    """
    folders = _adapters(root)
    if not folders:
        raise AdapterError(f"{root}: expected folders with {CONFIG}, got none")
    return _by_id(root, folders)


def find_teachers(root: Path, base: Path | None = None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the adapters and the full models at or below `root`, each by id and sorted.

    Ids are as in `find_adapters`, unique over both.

    Args:
        root: folder.
        base: folder of the base model, which is no teacher of its own.

    Raises:
        AdapterError: no folder, neither kind in it, or two of one id.
        ModelError: a folder holds an adapter and a full model both.
    """
    adapters = _adapters(root)
    models = [folder for folder in _models(root) if base is None or not folder.samefile(base)]
    both = sorted(set(adapters) & set(models))
    if both:
        raise ModelError(
            f"{both[0]}: expected an adapter ({CONFIG}) or a full model ({MODEL_CONFIG} with "
            f"{MODEL_WEIGHTS}), got both"
        )
    if not adapters and not models:
        raise AdapterError(
            f"{root}: expected folders with {CONFIG}, or with {MODEL_CONFIG} and {MODEL_WEIGHTS}, "
            "got none"
        )
    ids = _by_id(root, [*adapters, *models])
    full = set(models)
    return (
        {name: folder for name, folder in ids.items() if folder not in full},
        {name: folder for name, folder in ids.items() if folder in full},
    )


def model_weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a full model, sorted."""
    return sorted(folder.glob(MODEL_WEIGHTS))


def _adapters(root: Path) -> list[Path]:
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise AdapterError(f"{root}: expected a folder of adapters, got {got}")
    return sorted(path.parent for path in root.rglob(CONFIG) if _visible(path, root))


def _models(root: Path) -> list[Path]:
    configs = (path for path in root.rglob(MODEL_CONFIG) if _visible(path, root))
    return sorted(path.parent for path in configs if model_weight_files(path.parent))


def _by_id(root: Path, folders: Iterable[Path]) -> dict[str, Path]:
    named = [(_name(folder), folder) for folder in folders]
    names = Counter(name for name, _ in named)
    found: dict[str, Path] = {}
    for name, folder in named:
        relative = folder.relative_to(root)
        unique = names[name] == 1 or not relative.parts
        adapter_id = name if unique else "__".join(relative.parts)
        if adapter_id in found:
            raise AdapterError(
                f"{folder}: expected an id of its own, got {adapter_id}, which "
                f"{found[adapter_id]} has: rename one of them"
            )
        found[adapter_id] = folder
    return dict(sorted(found.items()))


def _name(folder: Path) -> str:
    """A folder's own name, which a path such as `.` or `a/..` does not hold."""
    return folder.resolve().name if folder.name in ("", "..") else folder.name


def _visible(path: Path, root: Path) -> bool:
    """Half-written folders are hidden: their names begin with a dot."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts)
