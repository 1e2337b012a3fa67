"""What an import loads, which `lint-imports` cannot see, and the glossary."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import anowild

#: Statements in the order in which a single process runs them, and what none may have loaded by then.
STEPS = {
    # Help, completion and mistakes in options come at once.
    "import anowild": ("torch", "numpy"),
    "import anowild.cli": ("torch",),
    "from anowild.cli import completion as c; c.views('') + c.settings('') + c.downloads()": (
        "torch",
    ),
    # Readers run where PyTorch is not wanted, and worker processes start quickly.
    "import anowild.data": ("torch",),
    # Limits and tables are read and shared without it, too.
    "import anowild.scoring.saved_limit, anowild.scoring.thresholds": ("torch",),
    "import anowild.exchange.share": ("torch",),
    # A service that scores needs no trainer. SciPy's statistics take a second.
    "import anowild.views": ("anowild.training",),
    "import anowild.scoring": ("anowild.training", "scipy.stats"),
    # Extras are imported by what needs them.
    "import anowild.api": ("starlette", "matplotlib"),
    # Some operations on tensors without memory import compilers: two seconds before each command.
    "anowild.scoring.Detector.load(sys.argv[2])": ("torch._dynamo", "sympy", "scipy.stats"),
}
SCRIPT = """
import json, sys
for step, unwanted in json.loads(sys.argv[1]).items():
    exec(step)
    loaded = sorted(set(unwanted) & sys.modules.keys())
    print(step, *loaded, sep="; ")
"""


def test_imports_do_not_load_what_they_do_not_need(model_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(STEPS), str(model_folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == list(STEPS)


#: Packages that have a module for each thing of a kind, as their docstrings say.
ONE_FOR_EACH = {"cli", "data/readers", "exchange/formats", "tracking"}


def test_docstrings_of_packages_name_all_modules() -> None:
    source = Path(anowild.__file__).parent
    for package in sorted(source.rglob("*/__init__.py")):
        folder = package.parent
        said = ast.get_docstring(ast.parse(package.read_text())) or ""
        modules = {file.stem for file in folder.glob("*.py")} - {"__init__"}
        modules |= {below.parent.name for below in folder.glob("*/__init__.py")}
        missing = sorted(name for name in modules if f"`{name}`" not in said)
        assert not missing or str(folder.relative_to(source)) in ONE_FOR_EACH, (folder, missing)


def test_glossary_is_sorted_and_names_files_that_exist() -> None:
    glossary = Path(__file__).parents[1] / "docs" / "glossary.md"
    entries = re.findall(r"^- \*\*(.+?)\*\*: .+ \[(.+?)\]\(\.\./src/anowild/\2\)$",
                         glossary.read_text(), re.MULTILINE)  # fmt: skip
    assert len(entries) == sum(line.startswith("- ") for line in glossary.read_text().splitlines())
    terms = [term.lower() for term, _ in entries]
    assert terms == sorted(terms)
    missing = [f for _, f in entries if not (glossary.parents[1] / "src" / "anowild" / f).is_file()]
    assert missing == []
