"""Probe sets by name or file, for command lines."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.probes import DOMAINS, ProbeSet, create_domain_probes, create_generic_probes


def named_probes(name: str) -> ProbeSet:
    """Return `generic`, a domain's probes, or those of a text file with one probe a line.

    Raises:
        TaskError: an unknown name, a missing or empty file.
    """
    if name == "generic":
        return create_generic_probes()
    if name in DOMAINS:
        return create_domain_probes(name)
    path = Path(name).expanduser()
    if path.suffix != ".txt":
        raise TaskError(f"probes: expected generic, one of {DOMAINS} or a .txt file, got {name!r}")
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise TaskError(f"{path}: not found") from error
    if not lines:
        raise TaskError(mismatch(path, "probes", "one text a line", "an empty file"))
    # A file has one probe a line, so a line break inside a probe is written as \n.
    return ProbeSet(tuple(line.replace("\\n", "\n") for line in lines), name=path.stem)
