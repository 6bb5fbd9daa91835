import pytest
import torch

from llgbm.lora_kernels import backends, use_backend
from llgbm.lora_kernels.backends import choose_backend

CPU = torch.device("cpu")


def test_auto_is_torch_on_the_cpu_and_the_context_overrides_it(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    assert choose_backend("auto", CPU) == "torch"
    with use_backend("triton"):
        assert choose_backend("auto", CPU) == "triton"
        assert choose_backend("torch", CPU) == "torch"
        with use_backend("torch"):
            assert choose_backend("auto", CPU) == "torch"
        assert choose_backend("auto", CPU) == "triton"
    assert choose_backend("auto", CPU) == "torch"


def test_triton_runs_on_a_gpu_when_asked_for_and_only_then(monkeypatch) -> None:
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    cuda = torch.device("cuda")
    assert choose_backend("auto", cuda) == "torch"
    assert choose_backend("triton", cuda) == "triton"
    with use_backend("triton"):
        assert choose_backend("auto", cuda) == "triton"


def test_the_context_is_restored_after_an_error() -> None:
    with pytest.raises(RuntimeError), use_backend("torch"):
        raise RuntimeError
    assert backends._override.get() == "auto"


def test_impossible_backends_say_why(monkeypatch) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        choose_backend("cuda", CPU)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of"), use_backend("x"):  # type: ignore
        pass
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(backends, "has_triton", lambda: True)
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        choose_backend("triton", CPU)
    monkeypatch.setattr(backends, "has_triton", lambda: False)
    with pytest.raises(ValueError, match="pip install triton"):
        choose_backend("triton", CPU)
