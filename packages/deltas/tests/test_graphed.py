import pytest
import torch

from llgbm.deltas.delta import compute_delta
from llgbm.deltas.errors import ModelError
from llgbm.deltas.graphed import factors_of, from_factors, graphed_delta
from llgbm.deltas.probes import TokenizedProbes

IDS = torch.randint(0, 256, (4, 7), generator=torch.Generator().manual_seed(1))
PROBES = TokenizedProbes(IDS, torch.tensor([7, 5, 7, 3]), "test")


def test_factors_go_back_and_forth(make_tiny_model, make_weights) -> None:
    weights = make_weights(make_tiny_model())
    back = from_factors(weights.spec, factors_of(weights))
    assert all(back.lora_A[p] is weights.lora_A[p] for p in weights.spec.paths)
    assert all(back.lora_B[p] is weights.lora_B[p] for p in weights.spec.paths)


def test_a_model_on_the_cpu_is_refused(make_tiny_model, make_weights) -> None:
    model = make_tiny_model()
    with pytest.raises(ModelError, match="expected a CUDA device, got cpu"):
        graphed_delta(model, make_weights(model).spec, 3, PROBES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_replay_equals_the_plain_step(kind, make_tiny_model, make_weights) -> None:
    model = make_tiny_model(kind=kind).cuda()
    weights = make_weights(model).to(torch.device("cuda"))
    graphed = graphed_delta(model, weights.spec, weights.n, PROBES)
    signs = torch.linspace(-1, 2, 32, device="cuda")
    results = []
    for function in (graphed, lambda w: compute_delta(model, w, PROBES)):
        wanted = weights.map(lambda factor: (2 * factor).detach().requires_grad_())
        delta = function(wanted)
        gradients = torch.autograd.grad((delta * signs).sum(), factors_of(wanted))
        results.append([delta.detach().clone(), *(g.clone() for g in gradients)])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="expected 3 adapters"):
        graphed(weights.select([0]))
