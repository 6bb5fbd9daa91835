import pytest
import torch

from llgbm.lora_kernels import backends, use_backend
from llgbm.lora_kernels.backends import choose_backend

CPU = torch.device("cpu")


def chosen(backend, device, dtype=torch.bfloat16, r=16) -> str:
    return choose_backend(backend, device, dtype, r)


def test_auto_is_torch_on_the_cpu_and_the_context_overrides_it(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    assert chosen("auto", CPU) == "torch"
    with use_backend("triton"):
        assert chosen("auto", CPU) == "triton"
        assert chosen("torch", CPU) == "torch"
        with use_backend("torch"):
            assert chosen("auto", CPU) == "torch"
        assert chosen("auto", CPU) == "triton"
    assert chosen("auto", CPU) == "torch"


def test_auto_is_triton_on_a_gpu_where_the_kernels_cover_the_case(monkeypatch) -> None:
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    cuda = torch.device("cuda")
    assert chosen("auto", cuda) == "triton"
    assert chosen("auto", cuda, r=129) == "torch"
    assert chosen("auto", cuda, dtype=torch.float64) == "torch"
    with use_backend("triton_fused"):
        assert chosen("auto", cuda) == "triton_fused"
    with use_backend("torch"):
        assert chosen("auto", cuda) == "torch"
    monkeypatch.setattr(backends, "has_triton", lambda: False)
    assert chosen("auto", cuda) == "torch"


def test_the_context_is_restored_after_an_error() -> None:
    with pytest.raises(RuntimeError), use_backend("torch"):
        raise RuntimeError
    assert backends._override == "auto"


def test_impossible_backends_say_why(monkeypatch) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        chosen("cuda", CPU)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of"), use_backend("x"):  # type: ignore
        pass
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        chosen("triton", CPU)
    monkeypatch.setattr(backends, "has_triton", lambda: False)
    with pytest.raises(ValueError, match="pip install triton"):
        chosen("triton", CPU)
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    with pytest.raises(ValueError, match="got float64"):
        chosen("triton", torch.device("cuda"), dtype=torch.float64)
    with pytest.raises(ValueError, match="rank up to 128 for triton, got 200"):
        chosen("triton_fused", torch.device("cuda"), r=200)
