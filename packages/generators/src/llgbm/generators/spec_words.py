"""Words for two specs that should have been one."""

from __future__ import annotations

from itertools import zip_longest

from llgbm.deltas.spec import LoRASpec, ModuleShape


def told_apart(expected: LoRASpec, got: LoRASpec) -> tuple[str, str]:
    """Return words for the first thing in which two specs differ, of the one and of the other."""
    for name in ("r", "lora_alpha"):
        first, second = getattr(expected, name), getattr(got, name)
        if first != second:
            return f"{name}={first:g}", f"{name}={second:g}"
    pairs = zip_longest(expected.modules, got.modules)
    ours, theirs = next((pair for pair in pairs if pair[0] != pair[1]), (None, None))
    return _module(ours), _module(theirs)


def _module(module: ModuleShape | None) -> str:
    if module is None:
        return "no further module"
    return f"{module.path} ({module.in_features} to {module.out_features})"
