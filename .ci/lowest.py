"""Print the lowest versions that pyproject.toml states, as constraints for pip.

What users install counts: the dependencies and the extras, not the tools of developers.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
named = project["dependencies"] + [line for key in extras if key != "dev" for line in extras[key]]
for requirement in named:
    if match := re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement):
        print(f"{match[1]}=={match[2]}")
    elif not requirement.startswith("anowild["):
        raise SystemExit(
            f"pyproject.toml: '{requirement}' states no lowest version as NAME>=VERSION"
        )
