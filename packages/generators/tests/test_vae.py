"""VAEs over adapters: every bottleneck, prior and encoder learns, writes and can be read."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError
from llgbm.deltas.spec import LoRASpec, ModuleShape
from llgbm.generators.condition_network import ConditionNetworkConfig
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.decoders import FullWidthConfig, PeriodicConfig
from llgbm.generators.losses import MultiTask, Step
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.vae.bottlenecks.deterministic import DeterministicConfig
from llgbm.generators.vae.bottlenecks.finite_scalar import FiniteScalarConfig
from llgbm.generators.vae.bottlenecks.vector_quantized import VectorQuantizedConfig
from llgbm.generators.vae.config import SEED_VAE, VAEConfig
from llgbm.generators.vae.encoders import AdapterEncoderConfig, ConditionEncoderConfig
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.loss import VAELoRALoss
from llgbm.generators.vae.priors.flow import FlowPriorConfig
from llgbm.generators.vae.priors.mixture import MixturePriorConfig
from llgbm.generators.vae.priors.normal import NormalPriorConfig
from llgbm.generators.vae.priors.vamp import VampPriorConfig

SIZES = {
    "latent_dim": 8,
    "decoder": FullWidthConfig(hidden=32, blocks=1, codes=6),
    "delta_hidden": 24,
    "condition": ConditionNetworkConfig(embedding_dim=24, hidden=32, heads=4, condition_dim=16),
}
READER = AdapterEncoderConfig(width=32, writers=4, readers=4)
VQ = VectorQuantizedConfig(codebook_size=6, code_dim=4, levels=2, warmup_steps=20)
CONFIGS = {
    "gaussian": VAEConfig(encoder=READER, **SIZES),
    "condition": VAEConfig(
        encoder=ConditionEncoderConfig(width=32),
        prior=NormalPriorConfig(conditional=False),
        **SIZES,
    ),
    "hierarchical": VAEConfig(encoder=READER, layer_code_dim=4, **SIZES),
    "autoencoder": VAEConfig(encoder=READER, bottleneck=DeterministicConfig(), **SIZES),
    "vq": VAEConfig(encoder=READER, layer_code_dim=4, bottleneck=VQ, **SIZES),
    "fsq": VAEConfig(
        encoder=READER, layer_code_dim=8, bottleneck=FiniteScalarConfig((5, 5, 5, 5)), **SIZES
    ),
    "mixture": VAEConfig(encoder=READER, prior=MixturePriorConfig(4), **SIZES),
    "vamp": VAEConfig(encoder=READER, prior=VampPriorConfig(4), **SIZES),
    "flow": VAEConfig(encoder=READER, prior=FlowPriorConfig(2, 16), **SIZES),
    "split": VAEConfig(encoder=READER, prior=NormalPriorConfig(task_dim=4), **SIZES),
    "periodic": VAEConfig(
        encoder=READER,
        own_maps=False,
        **{**SIZES, "decoder": PeriodicConfig(hidden=32, blocks=1, period=8)},
    ),
}


def conditions(b, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(b, 5, 24, generator=generator), dim=-1)
    return ConditionBatch.of([rows[i, : 2 + i % 4] for i in range(b)])


@pytest.fixture(params=sorted(CONFIGS))
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def fitted(config, tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 6)
    deltas = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    vae = LoRAGeneratorVAE(config, tiny_spec, (10,))
    vae.fit_scales(teachers, deltas)
    return vae, teachers, deltas


def train(vae, teachers, deltas, steps=150, loss=None, lr=3e-3):
    loss = loss or VAELoRALoss(beta_max=1e-5)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    told = conditions(teachers.n)
    vae.train()
    for step in range(steps):
        noise = torch.randn(teachers.n, vae.layout.size, generator=generator)
        breakdown = loss(Step(step, vae(told, teachers, noise), teachers, deltas))
        optimizer.zero_grad()
        breakdown.total.backward()
        optimizer.step()
    vae.eval()
    return breakdown


def test_an_untrained_vae_is_the_base_model(fitted):
    vae, teachers, _ = fitted
    output = vae(conditions(6), teachers)
    assert bool((output.weights.delta_norms() == 0).all())
    assert bool((output.delta == 0).all())
    assert output.latent.z.shape == (6, vae.layout.size)


def test_it_rebuilds_what_it_reads_and_predicts_its_delta(fitted):
    vae, teachers, deltas = fitted
    train(vae, teachers, deltas)
    with torch.no_grad():
        output = vae(conditions(6), teachers)
    cosines = update_cosine(output.weights, teachers)
    # The periodic decoder cannot write what is not periodic.
    floor = 0.1 if isinstance(vae.config.decoder, PeriodicConfig) else 0.6
    assert float(cosines.mean()) > floor
    assert float(F.cosine_similarity(output.delta, deltas).mean()) > 0.5


def test_what_is_written_for_a_condition_follows_from_the_condition(fitted):
    vae, teachers, deltas = fitted
    train(vae, teachers, deltas, 60)
    first, again = vae.write(conditions(6)), vae.write(conditions(6))
    other = vae.write(conditions(6, seed=5))
    path = teachers.spec.paths[0]
    assert torch.equal(first.lora_B[path], again.lora_B[path])
    assert first.n == other.n == 6
    assert not torch.equal(first.lora_B[path], other.lora_B[path])


def test_samples_vary_and_repeat_with_the_seed(fitted):
    vae, teachers, deltas = fitted
    train(vae, teachers, deltas, 60)
    told = conditions(4)
    drawn = [vae.sample(told, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0].shape == (4, vae.layout.size)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert vae.generate_from_z(drawn[0]).n == 4


def test_every_part_gets_a_gradient(fitted):
    vae, teachers, deltas = fitted
    train(vae, teachers, deltas, 25)  # past the warm-up of a codebook, and away from zero heads
    vae.train()
    noise = torch.randn(6, vae.layout.size, generator=torch.Generator().manual_seed(3))
    VAELoRALoss(free_bits=0.0)(
        Step(200, vae(conditions(6), teachers, noise), teachers, deltas)
    ).total.backward()
    told_by_classifier = "classify" in dict(vae.bottleneck.named_children())
    for name, part in vae.named_children():
        if name == "prior" and told_by_classifier:
            continue
        parameters = list(part.parameters())
        moved = [p for p in parameters if p.grad is not None and bool(p.grad.any())]
        assert moved or not parameters, name


def test_a_gauge_does_not_show_in_the_latent(tiny_spec, make_teachers):
    from llgbm.deltas.canonical.gauge import random_gauge

    teachers = make_teachers(tiny_spec, 6)
    vae = LoRAGeneratorVAE(CONFIGS["hierarchical"], tiny_spec, (10,))
    vae.fit_scales(teachers, torch.randn(6, 10))
    turned = random_gauge(teachers, torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, _ = vae.encode(conditions(6), teachers)
        second, _ = vae.encode(conditions(6), turned)
    torch.testing.assert_close(first.mu, second.mu, atol=1e-4, rtol=1e-4)


def test_layer_codes_change_their_own_layer_alone(tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 6)
    vae = LoRAGeneratorVAE(CONFIGS["hierarchical"], tiny_spec, (10,))
    vae.fit_scales(teachers, torch.randn(6, 10))
    train(vae, teachers, torch.randn(6, 10), 40)
    with torch.no_grad():
        z = vae.encode(conditions(6), teachers)[0].mu
        moved = z.clone()
        moved[:, vae.layout.global_dim : vae.layout.global_dim + vae.layout.layer_dim] += 1.0
        before, after = vae.generate_from_z(z), vae.generate_from_z(moved)
    for module in tiny_spec.modules:
        same = torch.equal(before.lora_B[module.path], after.lora_B[module.path])
        assert same == (module.layer != 0), module.path


def test_interpolation_begins_and_ends_at_the_latents(tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 6)
    vae = LoRAGeneratorVAE(CONFIGS["gaussian"], tiny_spec, (10,))
    vae.fit_scales(teachers, torch.randn(6, 10))
    train(vae, teachers, torch.randn(6, 10), 40)
    z = vae.centre(conditions(2))
    path = vae.interpolate(z[0], z[1], [0.0, 0.25, 1.0])
    ends = vae.generate_from_z(z)
    name = tiny_spec.paths[0]
    for place, end in ((0, 0), (2, 1)):
        torch.testing.assert_close(path.lora_B[name][place], ends.lora_B[name][end])


def test_the_seeds_budget_at_half_a_billion_parameters():
    shapes = {"q": (896, 896), "k": (896, 128), "v": (896, 128), "o": (896, 896)}
    shapes |= {"gate": (896, 4864), "up": (896, 4864), "down": (4864, 896)}
    modules = tuple(
        ModuleShape(f"model.layers.{layer}.{name}", *shape)
        for layer in range(24)
        for name, shape in shapes.items()
    )
    with torch.device("meta"):
        vae = LoRAGeneratorVAE(SEED_VAE, LoRASpec(modules, 16, 32.0), (896,))
    assert vae.parameter_count == pytest.approx(3.6e6, rel=0.1)
    assert sum(vae.parameters_of_parts().values()) == vae.parameter_count


def test_what_does_not_fit_is_refused(tiny_spec, make_teachers):
    teachers = make_teachers(tiny_spec, 3)
    vae = LoRAGeneratorVAE(CONFIGS["gaussian"], tiny_spec, (10,))
    with pytest.raises(ValueError, match="adapters: expected 2, one a condition, got none"):
        vae(conditions(2))
    with pytest.raises(ValueError, match="adapters: expected 2, one a condition, got 3"):
        vae(conditions(2), teachers)
    other = LoRASpec(tiny_spec.modules, 2, 4.0)
    with pytest.raises(ValueError, match="adapters: expected r=4 .* got r=2"):
        vae(conditions(2), make_teachers(other, 2))
    with pytest.raises(ValueError, match="z: expected 8 numbers, got 9"):
        vae.generate_from_z(torch.zeros(1, 9))
    with pytest.raises(SettingError, match="code_dim: expected a divisor .* got 5"):
        LoRAGeneratorVAE(
            VAEConfig(bottleneck=VectorQuantizedConfig(code_dim=5), **SIZES), tiny_spec, (10,)
        )
    with pytest.raises(SettingError, match="vamp: expected a Gaussian bottleneck"):
        LoRAGeneratorVAE(
            VAEConfig(bottleneck=DeterministicConfig(), prior=VampPriorConfig(), **SIZES),
            tiny_spec,
            (10,),
        )
    with pytest.raises(SettingError, match="task_dim: expected at most 8, got 9"):
        LoRAGeneratorVAE(VAEConfig(prior=NormalPriorConfig(task_dim=9), **SIZES), tiny_spec, (10,))
    quantized = LoRAGeneratorVAE(CONFIGS["vq"], tiny_spec, (10,)).bottleneck
    with pytest.raises(ValueError, match="codes: expected from 0 to 5, got from 0 to 6"):
        quantized.decode_codes(torch.tensor([[0, 6, 0, 0, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="codes: expected 8, got 3"):
        quantized.decode_codes(torch.zeros(1, 3, dtype=torch.int64))
    for name, tokens in (("vq", 8), ("fsq", 6)):
        bottleneck = LoRAGeneratorVAE(CONFIGS[name], tiny_spec, (10,)).bottleneck
        with pytest.raises(ValueError, match="codes: expected whole numbers, got torch.float32"):
            bottleneck.decode_codes(torch.full((1, tokens), 1.5))
    reader = LoRAGeneratorVAE(CONFIGS["gaussian"], tiny_spec, (10,))
    for adapters, deltas, words in (
        (teachers, torch.zeros(2, 10), r"deltas: expected shape \(3, 10\), got \(2, 10\)"),
        (teachers, torch.zeros(3, 11), r"deltas: expected shape \(3, 10\), got \(3, 11\)"),
        (teachers, torch.full((3, 10), torch.inf), "deltas: expected finite values"),
        (teachers.map(lambda f: f * torch.nan), torch.zeros(3, 10), "teachers: .* finite values"),
    ):
        with pytest.raises(ValueError, match=words):
            reader.fit_scales(adapters, deltas)
    plain = Step(0, type("Output", (), {"delta": torch.zeros(3, 10)})(), teachers, torch.zeros(3))
    with pytest.raises(ValueError, match="expected the output of a VAE"):
        VAELoRALoss(lambda_recon=0.0).terms()[1].term(plain)
    assert MultiTask() != VAELoRALoss()
