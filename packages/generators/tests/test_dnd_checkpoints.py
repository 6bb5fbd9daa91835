"""DnD's files as adapters: names mapped, bad files named, code refused unread."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from llgbm.deltas.errors import AdapterError, RunError, SettingError
from llgbm.deltas.spec import LoRASpec
from llgbm.generators.dnd.checkpoints import (
    DnDCheckpointDataset,
    GeneratorReader,
    TeacherReader,
)
from llgbm.generators.dnd.dnd_coding import DnDCoding
from llgbm.generators.dnd.generator_files import load_dnd_generator
from llgbm.generators.dnd.hyper_conv import (
    QWEN_0_5B,
    HyperConvDecoder,
    HyperConvDecoderConfig,
    small_hyper_conv,
)
from llgbm.generators.dnd.layout import TokenLayout
from llgbm.generators.dnd.tokenizer import WeightTokenizer

CONDITION = (3, 5, 6)
LAYER = "model.decoder.module_list.1"


def published_state(decoder, weights=True):
    """The decoder's parameters under the names that DnD gives them, spelt out."""
    state = {}
    for index, layer in enumerate(decoder.stack.layers):
        at = f"model.decoder.module_list.{index}"
        state[f"{at}.linear1.bias"] = layer.bias
        state[f"{at}.linear1.norm.weight"] = layer.norm.weight
        state[f"{at}.linear1.norm.bias"] = layer.norm.bias
        state[f"{at}.linear1.conv1w.weight"] = layer.width_first["width"].weight
        state[f"{at}.linear1.conv1h.weight"] = layer.width_first["height"].weight
        state[f"{at}.linear1.conv2h.weight"] = layer.height_first["height"].weight
        state[f"{at}.linear1.conv2w.weight"] = layer.height_first["width"].weight
        state[f"{at}.linear2.weight"] = layer.tokens.weight
        state[f"{at}.linear2.bias"] = layer.tokens.bias
    if decoder.config.reduced_from is not None:
        state["down_proj.weight"] = decoder.reduction.shorten.weight
        state["down_proj.bias"] = decoder.reduction.shorten.bias
        state["gate_proj.weight"] = decoder.reduction.mix.weight
        state["gate_proj.bias"] = decoder.reduction.mix.bias
    if weights:
        state["criterion_weight"] = torch.arange(decoder.config.features[-1][0]).view(1, -1, 1, 1)
    return {key: value.detach().clone().float() for key, value in state.items()}


@pytest.fixture
def layout(tiny_spec):
    return TokenLayout.from_spec(tiny_spec, 16)


@pytest.fixture
def decoder(layout):
    torch.manual_seed(0)
    return HyperConvDecoder(small_hyper_conv(CONDITION, layout.shape, channels=4))


@pytest.fixture
def folder(tmp_path, decoder, tiny_spec, make_teachers):
    """Two generators and three teachers of two tasks, as DnD lays them out."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("qwen0.5lora__ARC-c.pth", "qwen0.5lora__ARC-c1000.pth"):
        torch.save(published_state(decoder), tmp_path / "checkpoints" / name)
    for seed, name in enumerate(("ARC-c/50", "ARC-c/100", "BoolQ/7")):
        teacher = make_teachers(tiny_spec, 1, seed)
        tensors = {}
        for path in tiny_spec.paths:
            tensors[f"base_model.model.{path}.lora_A.weight"] = teacher.lora_A[path][0]
            tensors[f"base_model.model.{path}.lora_B.weight"] = teacher.lora_B[path][0]
        file = tmp_path / "data" / f"{name}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    return tmp_path


@pytest.mark.parametrize("reduced_from", [None, 9])
@pytest.mark.parametrize("given", [True, False])
def test_a_published_file_computes_what_its_generator_did(tmp_path, layout, reduced_from, given):
    small = small_hyper_conv(CONDITION, layout.shape, channels=4)
    config = HyperConvDecoderConfig(small.features, 3, reduced_from=reduced_from)
    torch.manual_seed(1)
    decoder = HyperConvDecoder(config)
    torch.save(published_state(decoder), tmp_path / "a.pth")
    loaded = load_dnd_generator(tmp_path / "a.pth", config if given else None)
    assert loaded.decoder.config == config
    assert not loaded.decoder.training
    condition = torch.randn(2, *config.condition_shape)
    assert torch.equal(loaded.decoder(condition), decoder(condition))
    assert torch.equal(loaded.token_weights, torch.arange(float(layout.tokens)))


def test_half_precision_and_a_text_encoder_in_the_file_change_nothing_else(tmp_path, decoder):
    state = published_state(decoder, weights=False)
    state = {key: value.bfloat16() for key, value in state.items()}
    torch.save({**state, "condition_module.pooler.weight": torch.ones(2)}, tmp_path / "a.pth")
    loaded = load_dnd_generator(tmp_path / "a.pth")
    assert loaded.token_weights is None
    for ours, theirs in zip(loaded.decoder.parameters(), decoder.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16().float())


def drop(key):
    return lambda state: state.pop(key)


def put(key, value):
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop(f"{LAYER}.linear1.conv1h.weight"), r"missing \['.*1.linear1.conv1h.weight'\]"),
        (drop(f"{LAYER}.linear2.weight"), r"keys: .*module_list.*"),
        (drop(f"{LAYER}.linear1.norm.weight"), "missing .*linear1.norm.weight"),
        (put("head.weight", torch.ones(2)), r"extra \['head.weight'\]"),
        (
            put(f"{LAYER}.linear1.conv1w.weight", torch.ones(2, 2, 3, 3)),
            r"1.linear1.conv1w.weight: expected \(18, 18, 3, 3\), got \(2, 2, 3, 3\)",
        ),
        (put(f"{LAYER}.linear2.weight", torch.ones(3)), r"expected 4 dimensions, got \(3,\)"),
        (put(f"{LAYER}.linear2.bias", torch.full((4,), torch.nan)), "linear2.bias.*NaN or Inf"),
        (put("criterion_weight", torch.ones(3)), r"criterion_weight: expected \d+ numbers, got"),
        (put("criterion_weight", 3), "criterion_weight: expected a tensor, got int"),
        (put(f"{LAYER}.linear2.bias", torch.ones(4).int()), "expected dense floating point"),
        (dict.clear, "missing model.decoder.module_list.0"),
    ],
)
def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path, decoder, edit, message):
    state = published_state(decoder)
    edit(state)
    path = tmp_path / "a.pth"
    torch.save(state, path)
    with pytest.raises(RunError, match=message) as caught:
        load_dnd_generator(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_other_sizes_than_the_given_is_refused(tmp_path, decoder):
    torch.save(published_state(decoder), tmp_path / "a.pth")
    with pytest.raises(RunError, match="keys: missing .*module_list.3"):
        load_dnd_generator(tmp_path / "a.pth", QWEN_0_5B)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path(self.target),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))]
)
def test_a_file_holding_code_is_refused_unread(tmp_path, decoder, write):
    target, path = tmp_path / "ran", tmp_path / "tiny__a.pth"
    write({**published_state(decoder), "extra": Payload(target)}, path)
    with pytest.raises(RunError, match="expected tensors only, got .*refused unread") as caught:
        load_dnd_generator(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_a_whole_module_is_code_and_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(RunError, match=r"got code \(torch.nn.modules.linear.Linear\)"):
        load_dnd_generator(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"junk"), "expected a whole state dict"),
        (lambda path: path.write_bytes(b""), "expected a whole state dict"),
        (lambda path: path.mkdir(), "expected a whole state dict"),
        (lambda path: torch.save([1], path), "expected a state dict, got list"),
        (lambda path: None, "not found"),
    ],
)
def test_a_file_that_is_no_state_dict_is_named(tmp_path, write, message):
    path = tmp_path / "a.pth"
    write(path)
    with pytest.raises(RunError, match=message) as caught:
        load_dnd_generator(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_named(tmp_path, decoder):
    path = tmp_path / "a.pth"
    torch.save(published_state(decoder), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match="a.pth: content: expected"):
        load_dnd_generator(path)


def test_a_folder_lists_its_files_by_task_and_step(folder):
    dataset = DnDCheckpointDataset(folder)
    listed = [(info.is_generator, info.task, info.step) for info in dataset.infos]
    assert listed == [
        (True, "ARC-c", 1000),
        (True, "ARC-c", None),
        (False, "ARC-c", 50),
        (False, "ARC-c", 100),
        (False, "BoolQ", 7),
    ]
    assert len(dataset) == 5


def test_generators_write_the_adapters_of_their_tokens(folder, decoder, layout, tiny_spec):
    condition = torch.randn(2, *CONDITION)
    reader = GeneratorReader(tiny_spec, {"ARC-c": condition})
    item = DnDCheckpointDataset(folder, reader)[0]
    assert item.weights.n == 2
    assert item.weights.spec == tiny_spec
    with torch.no_grad():
        expected = WeightTokenizer(layout, DnDCoding()).detokenize(decoder(condition))
    for path in tiny_spec.paths:
        assert torch.equal(item.weights.lora_A[path], expected.lora_A[path])
        assert torch.equal(item.weights.lora_B[path], expected.lora_B[path])


def test_teachers_come_with_rank_by_shape_and_alpha_twice_the_rank(
    folder, tiny_spec, make_teachers
):
    dataset = DnDCheckpointDataset(folder)
    item, teacher = dataset[3], make_teachers(tiny_spec, 1, 1)
    assert (item.info.task, item.info.step) == ("ARC-c", 100)
    assert (item.weights.spec.r, item.weights.spec.lora_alpha) == (4, 8.0)
    for path in tiny_spec.paths:
        assert torch.equal(item.weights.lora_A[path], teacher.lora_A[path])
        assert torch.equal(item.weights.lora_B[path], teacher.lora_B[path])
    other = DnDCheckpointDataset(folder, teachers=TeacherReader(lora_alpha=4.0))[3]
    assert other.weights.spec.scaling == 1.0


def test_the_data_set_serves_a_data_loader(folder, tiny_spec):
    reader = GeneratorReader(tiny_spec, {"ARC-c": torch.randn(1, *CONDITION)})
    loader = torch.utils.data.DataLoader(
        DnDCheckpointDataset(folder, reader), batch_size=None, shuffle=False
    )
    assert [item.weights.n for item in loader] == [1] * 5


def test_a_generator_of_another_spec_task_or_condition_is_named(folder, tiny_spec):
    condition = torch.randn(1, *CONDITION)
    other = LoRASpec(tiny_spec.modules[:7], tiny_spec.r, tiny_spec.lora_alpha)
    for reader, error, message in (
        (None, RunError, "ARC-c1000.pth: expected a GeneratorReader"),
        (GeneratorReader(other, {"ARC-c": condition}), RunError, r"tokens \(N, H, W\): expected"),
        (GeneratorReader(tiny_spec, {"BoolQ": condition}), RunError, r"\['BoolQ'\], got ARC-c"),
        (GeneratorReader(tiny_spec, {"ARC-c": condition[..., :3]}), SettingError, "condition"),
    ):
        with pytest.raises(error, match=message):
            DnDCheckpointDataset(folder, reader)[0]


def test_a_generator_that_writes_infinities_is_named(folder, decoder, tiny_spec):
    path = folder / "checkpoints" / "qwen0.5lora__ARC-c1000.pth"
    state = published_state(decoder)
    state["model.decoder.module_list.2.linear2.bias"].fill_(1000.0)
    torch.save(state, path)
    reader = GeneratorReader(tiny_spec, {"ARC-c": torch.randn(1, *CONDITION)})
    with pytest.raises(AdapterError, match="ARC-c1000.pth: .*NaN or Inf"):
        DnDCheckpointDataset(folder, reader)[0]


def test_folders_without_checkpoints_are_named(tmp_path):
    with pytest.raises(RunError, match="expected a folder, got none"):
        DnDCheckpointDataset(tmp_path / "missing")
    with pytest.raises(RunError, match=r"expected files \*.pth or \*.safetensors, got none"):
        DnDCheckpointDataset(tmp_path)
    (tmp_path / "model.pth").touch()
    with pytest.raises(RunError, match="expected MODEL__TASK"):
        DnDCheckpointDataset(tmp_path)
