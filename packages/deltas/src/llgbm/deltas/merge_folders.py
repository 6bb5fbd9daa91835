"""Merging adapters in PEFT folders into one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llgbm.deltas.errors import AdapterError, SettingError, mismatch
from llgbm.deltas.merging import MergeMethod, merge
from llgbm.deltas.peft_format import (
    AdapterInfo,
    check_output,
    load_adapter,
    read_adapter_info,
    save_adapter,
)
from llgbm.deltas.same_rank import at_common_rank
from llgbm.deltas.spec import LoRASpec


def merge_folders(
    folders: Sequence[Path],
    out: Path,
    method: MergeMethod = "average",
    coefficients: Sequence[float] | None = None,
    r: int | None = None,
    density: float = 0.5,
    overwrite: bool = False,
) -> LoRASpec:
    """Merge adapters of one base in the space of their updates and write the result.

    Args:
        folders: PEFT folders of the same modules; ranks and alphas may differ
            (`at_common_rank`).
        out: folder of the result.
        method: average, ties or dare; see `merge`.
        coefficients: one number a folder; the method's own where None.
        r: rank of the result; the largest among the adapters where None.
        density: share of entries that ties and dare keep.
        overwrite: replace `out` where it holds an adapter.

    Returns:
        Spec of the result.

    Raises:
        AdapterError: no adapters, unlike ones (another base, other modules), one that cannot be
            read, another number of coefficients, all of them 0, or `out` exists.
        SettingError: r beyond both the smallest side of a module and the largest r among the
            adapters, or what `merge` refuses.
    """
    check_output(out, overwrite)
    if not folders:
        raise AdapterError("merge: expected at least one adapter, got none")
    if coefficients is not None and len(coefficients) != len(folders):
        raise AdapterError(f"coefficients: expected {len(folders)}, got {len(coefficients)}")
    if coefficients is not None and not any(coefficients):
        raise AdapterError("coefficients: expected one that is not 0, got zeros: nothing is merged")
    infos = [read_adapter_info(path) for path in folders]
    check_one_base(folders, infos)
    together = at_common_rank([load_adapter(path) for path in folders], folders)
    side = min(min(m.in_features, m.out_features) for m in together.spec.modules)
    most = max(side, together.spec.r)
    if r is not None and r > most:
        words = "the smallest side" if most == side else "the largest of the adapters"
        raise SettingError(f"r: expected at most {most}, {words}, got {r}")
    merged = merge(together, coefficients, method, r, density)
    name = next((info.base_model_name for info in infos if info.base_model_name), None)
    fingerprint = next((info.base_fingerprint for info in infos if info.base_fingerprint), None)
    save_adapter(merged, out, name, fingerprint)
    return merged.spec


def check_one_base(folders: Sequence[Path], infos: Sequence[AdapterInfo]) -> None:
    """Raise AdapterError unless the adapters can have been made for one base.

    Fingerprints decide where two adapters have one. Else their names must be the same, if both
    have a name: equal shapes are no sign of one base.
    """
    for index, (path, info) in enumerate(zip(folders, infos, strict=True)):
        for other_path, other in zip(folders[:index], infos[:index], strict=True):
            prints = (other.base_fingerprint, info.base_fingerprint)
            names = (other.base_model_name, info.base_model_name)
            if all(prints):
                expected, got = (f"{n} ({p[:12]})" for n, p in zip(names, prints, strict=True) if p)
                if prints[0] != prints[1]:
                    raise AdapterError(
                        mismatch(path, "base model", f"{expected} as in {other_path}", got)
                    )
            elif all(names) and names[0] != names[1]:
                raise AdapterError(
                    mismatch(path, "base model", f"{names[0]} as in {other_path}", names[1])
                )
