"""Which packages `anowild.data` loads."""

from __future__ import annotations

import subprocess
import sys

_IMPORT_ALL = """
import importlib, pkgutil, sys
import anowild.data
names = [m.name for m in pkgutil.walk_packages(anowild.data.__path__, "anowild.data.")]
for name in names:
    importlib.import_module(name)
print(len(names), sorted({"torch", "anowild.training", "anowild.scoring"} & set(sys.modules)))
"""


def test_data_loads_no_torch_in_any_module() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, check=True
    )
    count, loaded = done.stdout.split(" ", 1)
    assert int(count) > 25
    assert loaded.strip() == "[]"
