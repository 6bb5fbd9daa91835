import torch

from llgbm.bench.memory import peak_mib


def test_the_peak_is_what_is_alive_at_once() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    megabytes = 2**18  # float32 numbers in a MiB

    def work() -> torch.Tensor:
        first = torch.ones(4 * megabytes, device=device)
        second = first * 2  # 8 MiB alive
        del first
        third = second + 1  # 8 again
        del second
        return third * torch.ones(8 * megabytes, device=device)[: 4 * megabytes]  # 4 + 8 + 4

    assert abs(peak_mib(work) - 16) < 0.1
    held = torch.ones(64 * megabytes, device=device)
    # What was held before has no part, and a second count is the same.
    assert abs(peak_mib(work) - 16) < 0.1
    assert len(held)
