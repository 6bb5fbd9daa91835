"""The commit in a result is this project's, never that of the repository a user stands in."""

import shutil
import subprocess

import pytest
import torch

from llgbm.deltas import environment as environment_module
from llgbm.deltas.environment import environment


def test_a_users_own_repository_does_not_lend_its_commit(tmp_path, monkeypatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment_module, "__file__", str(tmp_path / "environment.py"))
    found = environment(3, torch.device("cpu"), torch.float32)
    assert found["commit"] == "unknown"
    assert (found["seed"], found["dtype"]) == (3, "float32")
    (tmp_path / "packages/deltas/src/llgbm/deltas").mkdir(parents=True)
    commit = environment(3, torch.device("cpu"), torch.float32)["commit"]
    assert len(commit) == 40


def test_source_names_its_commit_wherever_it_runs(tmp_path, monkeypatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    clone, elsewhere = tmp_path / "clone", tmp_path / "elsewhere"
    source = clone / "packages/deltas/src/llgbm/deltas"
    for folder in (source, elsewhere):
        folder.mkdir(parents=True)
    (source / "environment.py").write_text("")
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=clone, check=True)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(environment_module, "__file__", str(source / "environment.py"))
    commit = environment(3, torch.device("cpu"), torch.float32)["commit"]
    assert len(commit) == 40
    (source / "environment.py").write_text("changed")
    changed = environment(3, torch.device("cpu"), torch.float32)["commit"]
    assert changed == commit + "+"


def test_no_path_and_no_host_name_is_noted() -> None:
    import platform

    text = str(environment(0, torch.device("cpu"), torch.bfloat16))
    assert "/" not in text
    assert f"'{platform.node()}'" not in text
