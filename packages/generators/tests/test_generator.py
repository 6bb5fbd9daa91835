"""LoRAGenerator: from conditions to adapters and deltas, trained end to end, and on disk."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from llgbm.deltas.errors import RunError
from llgbm.generators.condition_network import ConditionNetworkConfig
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.decoders import FullWidthConfig, HyperConvConfig, PeriodicConfig
from llgbm.generators.delta_head import DeltaHeadConfig
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.generator_config import GeneratorConfig
from llgbm.generators.losses import DeltaGuided, DeltaOnly, Step

SIZES = {
    "condition": ConditionNetworkConfig(embedding_dim=24, hidden=32, heads=4, condition_dim=16),
    "delta_head": DeltaHeadConfig(sketch=2, hidden=24),
}
CONFIGS = {
    "full_width": GeneratorConfig(decoder=FullWidthConfig(hidden=32, codes=6), **SIZES),
    "hyper_conv": GeneratorConfig(
        decoder=HyperConvConfig(token_width=16, channels=8, image_height=3, image_width=6), **SIZES
    ),
    "periodic": GeneratorConfig(decoder=PeriodicConfig(hidden=32, period=8), **SIZES),
}


@pytest.fixture(params=sorted(CONFIGS))
def config(request):
    return CONFIGS[request.param]


def conditions(b, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(b, 5, 24, generator=generator), dim=-1)
    return ConditionBatch.of([rows[i, : 2 + i % 4] for i in range(b)])


def base_delta(weights):
    """Stand-in for the frozen base: nonlinear layers in a row, one per module, read at the end."""
    spec, total = weights.spec, 0.0
    for index, module in enumerate(spec.modules):
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(module.in_features, 3, generator=generator)
        W = torch.randn(module.out_features, module.in_features, generator=generator)
        W = W / math.sqrt(module.in_features)
        update = weights.lora_B[module.path] @ (weights.lora_A[module.path] @ x) * spec.scaling
        read = torch.randn(10, module.out_features, generator=generator)
        moved = torch.tanh(W @ x + update) - torch.tanh(W @ x)
        total = total + (read @ moved).mean(-1)
    return total


@pytest.fixture
def fitted(config, tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 4)
    deltas = base_delta(teachers)
    generator = LoRAGenerator(config, tiny_spec, (10,))
    generator.fit_scales(teachers, deltas)
    return generator, teachers, deltas


def test_an_untrained_generator_is_the_base_model_and_predicts_no_delta(fitted):
    generator, _, _ = fitted
    output = generator(conditions(3))
    assert output.weights.n == 3
    assert output.delta.shape == (3, 10)
    assert output.condition.shape == (3, 16)
    assert bool((output.weights.delta_norms() == 0).all())
    assert bool((output.delta == 0).all())
    assert bool((base_delta(output.weights) == 0).all())


def test_deltas_may_be_per_probe_and_layer(config, tiny_spec):
    generator = LoRAGenerator(config, tiny_spec, (5, 2, 6))
    assert generator(conditions(2)).delta.shape == (2, 5, 2, 6)


def test_delta_guided_training_reaches_every_parameter(fitted):
    generator, teachers, deltas = fitted
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-3)
    objective = DeltaGuided(every_n=1)
    for step in range(4):
        optimizer.zero_grad()
        loss = objective(Step(step, generator(conditions(4)), teachers, deltas, base_delta))
        loss.total.backward()
        optimizer.step()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_behaviour_alone_reaches_every_parameter_that_writes_weights(fitted):
    generator, teachers, deltas = fitted
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-3)
    losses = []
    for step in range(25):
        optimizer.zero_grad()
        loss = DeltaOnly()(Step(step, generator(conditions(4)), teachers, deltas, base_delta))
        loss.total.backward()
        losses.append(float(loss.total.detach()))
        optimizer.step()
    assert losses[0] == pytest.approx(1.0)
    assert losses[-1] < 0.9
    for name, parameter in generator.named_parameters():
        if name.startswith("delta_head."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_the_heads_gradient_goes_through_the_weights(fitted):
    generator, _, _ = fitted
    torch.nn.init.normal_(generator.decoder.gain_B.weight)
    torch.nn.init.normal_(generator.delta_head.outer.weight)
    output = generator(conditions(2))
    factors = [*output.weights.lora_A.values(), *output.weights.lora_B.values()]
    gradients = torch.autograd.grad(output.delta.square().sum(), factors, retain_graph=True)
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)
    # And there is no other way from the condition to the delta.
    again = generator.delta_head(output.weights.detach())
    assert torch.equal(again, output.delta)
    assert not torch.autograd.grad(again.sum(), output.condition, allow_unused=True)[0]


def test_the_head_sees_the_update_and_not_its_gauge(fitted):
    generator, teachers, _ = fitted
    head = generator.delta_head.double()
    torch.nn.init.normal_(head.outer.weight)
    weights = teachers.to(dtype=torch.float64)
    R = 2 * torch.eye(4, dtype=torch.float64)
    R[0, 1], R[2, 0] = 0.5, -0.7
    turned = type(weights)(
        weights.spec,
        {path: R @ A for path, A in weights.lora_A.items()},
        {path: B @ torch.linalg.inv(R) for path, B in weights.lora_B.items()},
    )
    torch.testing.assert_close(head(turned), head(weights), atol=1e-10, rtol=1e-10)


def test_the_head_learns_the_deltas_of_teachers(fitted):
    generator, teachers, deltas = fitted
    optimizer = torch.optim.AdamW(generator.delta_head.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        error = F.mse_loss(generator.delta_head(teachers), deltas) / deltas.square().mean()
        error.backward()
        optimizer.step()
    assert float(error.detach()) < 0.01


def test_construction_is_seeded_and_leaves_the_global_generator_alone(config, tiny_spec):
    before = torch.random.get_rng_state()
    made = [LoRAGenerator(config, tiny_spec, (10,), seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    first, same, other = (generator.state_dict() for generator in made)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_deltas_of_another_shape_are_refused(config, tiny_spec, make_teachers):
    generator = LoRAGenerator(config, tiny_spec, (10,))
    with pytest.raises(ValueError, match=r"\(2, 10\), got \(2, 11\)"):
        generator.fit_scales(make_teachers(tiny_spec, 2), torch.zeros(2, 11))
    with pytest.raises(ValueError, match="deltas: expected finite values, got NaN or Inf"):
        generator.fit_scales(make_teachers(tiny_spec, 2), torch.full((2, 10), math.nan))


def test_saving_and_loading_keeps_every_bit(fitted, tmp_path):
    generator, _, _ = fitted
    torch.nn.init.normal_(generator.decoder.gain_B.weight)
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "metrics.jsonl").write_text("{}\n")
    generator.save(tmp_path / "g", {"base_model": "tiny"})
    loaded = LoRAGenerator.load(tmp_path / "g")
    assert loaded.config == generator.config
    assert loaded.spec == generator.spec
    assert loaded.metadata == {"base_model": "tiny"}
    state = generator.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    ours, theirs = generator(conditions(2)), loaded(conditions(2))
    assert torch.equal(ours.delta, theirs.delta)
    for path in generator.spec.paths:
        assert torch.equal(ours.weights.lora_A[path], theirs.weights.lora_A[path])
        assert torch.equal(ours.weights.lora_B[path], theirs.weights.lora_B[path])
    names = sorted(path.name for path in (tmp_path / "g").iterdir())
    assert names == ["config.json", "generator.safetensors", "metrics.jsonl"]


@pytest.fixture
def saved(tiny_spec, tmp_path):
    LoRAGenerator(CONFIGS["periodic"], tiny_spec, (10,)).save(tmp_path / "g")
    return tmp_path / "g"


def change_config(folder, *path, value):
    file = folder / "config.json"
    content = json.loads(file.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format: expected 2, got 1"),
        (("decoder", "name"), "convolution", r"decoder: name: expected one of \['full_width'"),
        (("decoder", "period"), "wide", "decoder: period: expected int, got 'wide'"),
        (("decoder", "period"), None, "decoder: expected .*period"),
        (("condition", "heads"), 3, "condition: heads: expected a divisor"),
        (("condition",), 3, "condition: expected an object, got int"),
        (("delta_shape",), "wide", "delta_shape: expected a list of sizes"),
        (("text_encoder",), None, "text_encoder: expected a string"),
        (("spec", "modules"), [["q_proj", 4]], "spec: expected r, lora_alpha and modules"),
        (("spec", "r"), 0, "spec: .*r: expected at least 1, got 0"),
        (("delta_shape",), [11], "belong to different generators"),
        (("decoder", "hidden"), 1 << 40, "belong to different generators"),
        (("spec", "lora_alpha"), 99.0, "belong to different generators"),
        (("kind",), "vae", "kind: expected a generator of `llgbm train`, got 'vae'"),
    ],
)
def test_a_changed_description_is_refused_in_one_line(saved, path, value, message):
    change_config(saved, *path, value=value)
    with pytest.raises(RunError, match=message) as caught:
        LoRAGenerator.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def with_tensors(folder, change):
    file = folder / "generator.safetensors"
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, header)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("decoder.log_scale"), r"missing \['decoder.log_scale'\], extra \[\]"),
        (lambda t: t.update(new=torch.zeros(1)), r"missing \[\], extra \['new'\]"),
        (
            lambda t: t.update({"decoder.log_scale": torch.zeros(3)}),
            r"decoder.log_scale: expected torch.float32 \(14, 2\), got torch.float32 \(3,\)",
        ),
        (lambda t: t["decoder.log_scale"].fill_(float("nan")), "decoder.log_scale.*NaN"),
    ],
)
def test_changed_tensors_are_refused_by_name(saved, change, message):
    with_tensors(saved, change)
    with pytest.raises(RunError, match=message):
        LoRAGenerator.load(saved)


def test_a_missing_or_truncated_file_is_named(saved):
    file = saved / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"generator\.safetensors"):
        LoRAGenerator.load(saved)
    file.unlink()
    with pytest.raises(RunError, match=r"generator\.safetensors: not found"):
        LoRAGenerator.load(saved)
    shutil.rmtree(saved)
    with pytest.raises(RunError, match=r"config\.json: not found"):
        LoRAGenerator.load(saved)
