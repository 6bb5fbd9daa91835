"""Where a result comes from: commit, versions, device, seed."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_VERSIONS = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "llgbm-lora-kernels",
    "llgbm-deltas",
    "llgbm-generators",
    "llgbm-latentwire",
)

# A folder that only this project's repository has.
_OWN = Path("packages", "deltas", "src", "llgbm", "deltas")


def environment(seed: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Describe the software and hardware of a result, without paths or host names."""
    return {
        "commit": _commit(),
        "versions": {name: _version(name) for name in _VERSIONS},
        "python": platform.python_version(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "platform": f"{platform.system()} {platform.machine()}",
        "seed": seed,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "source"


def _commit() -> str:
    """Commit of this project's repository, `+` where it has changes.

    Of the one that this source stands in, else of the one that the command runs in; `unknown`
    elsewhere: the commit of a user's own repository says nothing about this code.
    """
    for place in (Path(__file__).parent, Path.cwd()):
        found = _commit_at(place)
        if found:
            return found
    return "unknown"


def _commit_at(place: Path) -> str:
    """Commit of this project's repository around a folder; empty where it is not in one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=place, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if not (Path(git("rev-parse", "--show-toplevel")) / _OWN).is_dir():
            return ""
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def device_name(device: torch.device) -> str:
    """Name of a GPU, or of the processor with its instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.processor() or platform.machine()} CPU ({capability})"
