"""Import each package from an installed wheel, and make sure that it is the wheel's."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

for name in sys.argv[1:]:
    module = import_module(f"llgbm.{name}")
    folder = Path(module.__file__ or "").parent
    if "site-packages" not in folder.parts:
        sys.exit(f"llgbm.{name}: expected it in site-packages, got {folder}")
    if not (folder / "py.typed").exists():
        sys.exit(f"llgbm.{name}: py.typed is missing from the wheel")
    for public in getattr(module, "__all__", ()):
        getattr(module, public)
    print(f"llgbm.{name}: imported, {len(getattr(module, '__all__', ()))} public names")
