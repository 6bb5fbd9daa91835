"""Check what the packages of the repository promise each other.

No `__init__.py` at a namespace root; README, CHANGELOG, py.typed and tests in every package; the
version stands in the CHANGELOG; a sibling's floor is not above its version.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version_key(version: str) -> tuple[int, ...]:
    """Order of dotted versions."""
    return tuple(int(part) for part in version.split("."))


def problems() -> list[str]:
    """Return one line a broken promise."""
    found: list[str] = []
    tables = {
        path.parent: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
    }
    versions = {table["name"]: table["version"] for table in tables.values()}
    for folder, table in tables.items():
        where = folder.relative_to(ROOT)
        if (folder / "src" / "llgbm" / "__init__.py").exists():
            found.append(f"{where}: src/llgbm/__init__.py breaks every sibling: remove it")
        source = folder / "src" / "llgbm" / folder.name
        needed = [folder / "README.md", folder / "CHANGELOG.md", source / "py.typed"]
        found += [f"{path.relative_to(ROOT)}: missing" for path in needed if not path.exists()]
        if not list((folder / "tests").glob("test_*.py")):
            found.append(f"{where}/tests: no tests")
        changelog = folder / "CHANGELOG.md"
        if changelog.exists() and f"## {table['version']}" not in changelog.read_text("utf-8"):
            found.append(f"{where}/CHANGELOG.md: no section for {table['version']}")
        for requirement in table["dependencies"]:
            match = re.match(r"(llgbm-[a-z-]+)>=([0-9.]+)$", requirement)
            if requirement.startswith("llgbm-") and match is None:
                found.append(f"{where}: {requirement}: expected a floor >=X.Y.Z")
            elif match and version_key(match[2]) > version_key(versions.get(match[1], "0")):
                found.append(f"{where}: {requirement}: above the sibling's version")
    return found


if __name__ == "__main__":
    lines = problems()
    print("\n".join(lines) or "packages: in order")
    sys.exit(bool(lines))
