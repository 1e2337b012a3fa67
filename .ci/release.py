"""Check that this commit can be released: versions agree, and what is built installs and finds odd digits.

    make release-check                              # everything
    .venv/bin/python .ci/release.py --rehearse      # without what only the commit of the release has

Builds wheel and sdist into dist/ and leaves them there. CONTRIBUTING.md has the rules for versions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import runpy
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
DATE = r"\d{4}-\d{2}-\d{2}"
#: Least AUROC of the demo's digits, and where it stands in its result.
LEAST_AUROC, ROW, COLUMN = 0.9, 1, 1


def main() -> int:
    """Run all checks; the first that fails ends them with a sentence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--rehearse", action="store_true", help="accept changed files and a version without a date"
    )
    parser.add_argument("--kimg", help="length of the demo's trainings; its default unless given")
    given = parser.parse_args()
    wrong = problems(ROOT)
    if not given.rehearse:
        wrong += problems_of_commit(ROOT)
    if wrong:
        print("no release:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    wheel = build(ROOT / "dist")
    with tempfile.TemporaryDirectory() as folder:
        python = install(wheel, Path(folder))
        check_extras(python, wheel)
        check_demo(python, Path(folder), given.kimg)
    print(f"{wheel.name} and its sdist can be released")
    return 0


def version_of(root: Path) -> str:
    """Return the version of the package."""
    version: str = runpy.run_path(str(root / "src" / "anowild" / "version.py"))["VERSION"]
    return version


def problems(root: Path) -> list[str]:
    """Return where version.py, CHANGELOG.md and CITATION.cff break the rules, in words."""
    version = version_of(root)
    if not re.fullmatch(VERSION, version):
        return [f"src/anowild/version.py: {version} is not of the form MAJOR.MINOR.PATCH"]
    found = []
    headings = re.findall(r"^## (.+)$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    entries = [heading.partition(" ")[0] for heading in headings]
    if entries[:1] != [version]:
        found.append(f"CHANGELOG.md: the first entry is not of {version}")
    for newer, older in itertools.pairwise(entries):
        if newer not in successors(older):
            found.append(f"CHANGELOG.md: {newer} does not follow {older}")
    citation = (root / "CITATION.cff").read_text()
    if re.findall(r"^version: (.+)$", citation, re.MULTILINE) != [version]:
        found.append(f"CITATION.cff: has no line 'version: {version}'")
    return found


def successors(version: str) -> set[str]:
    """Return the versions that may follow one: the next patch, minor or major version."""
    if not (match := re.fullmatch(VERSION, version)):
        return set()
    major, minor, patch = map(int, match.groups())
    return {f"{major}.{minor}.{patch + 1}", f"{major}.{minor + 1}.0", f"{major + 1}.0.0"}


def problems_of_commit(root: Path) -> list[str]:
    """Return what is missing of the commit of a release: a date, no changed files, a new tag."""
    version = version_of(root)
    found = []
    heading = re.search(r"^## (.+)$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    dated = heading and re.fullmatch(rf"{VERSION} \(({DATE})\)", heading[1])
    if not dated:
        found.append(f"CHANGELOG.md: the first heading is not '## {version} (YYYY-MM-DD)'")
    elif f"\ndate-released: {dated[4]}\n" not in (root / "CITATION.cff").read_text():
        found.append(f"CITATION.cff: has no line 'date-released: {dated[4]}'")
    if changed := git(root, "status", "--porcelain"):
        found.append(f"files are changed or not committed:\n{changed}")
    if git(root, "tag", "--list", f"v{version}"):
        found.append(f"the tag v{version} is there already")
    return found


def git(root: Path, *words: str) -> str:
    """Return what a command of Git prints."""
    return run("git", "-C", root, *words).rstrip()


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """Run a command, whose messages are shown; return what it prints.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(map(str, words))}\n{done.stdout}")
    return done.stdout


def build(place: Path) -> Path:
    """Build an sdist, and a wheel from it that is the one of this folder; return the wheel."""
    for old in [*place.glob("*.whl"), *place.glob("*.tar.gz")]:
        old.unlink()
    run(sys.executable, "-m", "build", "--quiet", "--outdir", place, ROOT)
    (wheel,) = place.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "build", "--quiet", "--wheel", "--outdir", folder, ROOT)
        (direct,) = Path(folder).glob("*.whl")
        if contents(direct) != contents(wheel):
            raise SystemExit("the wheel of the sdist is not that of this folder")
    return wheel


def contents(wheel: Path) -> dict[str, int]:
    """Return the checksums of the files in a wheel by name."""
    with zipfile.ZipFile(wheel) as file:
        return {one.filename: one.CRC for one in file.infolist()}


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel, with what the demo needs, into an empty environment; return its Python."""
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip(python, f"{wheel}[demo,pretrained]")
    told = run(python, "-c", "import anowild; print(anowild.__version__)", cwd=folder).strip()
    if told != version_of(ROOT):
        raise SystemExit(f"the installed package says that it is {told}")
    return python


def pip(python: Path, *words: str) -> None:
    """Install with the versions of the lock file."""
    run(python, "-m", "pip", "--quiet", "install", "-c", ROOT / "constraints.txt", *words)


def check_extras(python: Path, wheel: Path) -> None:
    """Let pip resolve each extra beside the others that are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in project["optional-dependencies"]:
        pip(python, "--dry-run", f"{wheel}[{extra}]")
        print(f"resolved: anowild[{extra}]", flush=True)


def check_demo(python: Path, folder: Path, kimg: str | None) -> None:
    """Run the demo outside the repository, and look at its result."""
    length = [] if kimg is None else ["--kimg", kimg]
    print(run(python.with_name("anowild"), "demo", "-o", "demo", *length, cwd=folder))
    for name in ("find/report.html", "comparison.html", "scores.csv"):
        if not (folder / "demo" / name).is_file():
            raise SystemExit(f"the demo leaves no {name}")
    rows = json.loads((folder / "demo" / "result.json").read_text())["rows"]
    auroc = float(rows[ROW][COLUMN].split()[0])
    if auroc < LEAST_AUROC:
        raise SystemExit(f"the demo's AUROC is {auroc}, less than {LEAST_AUROC}")


if __name__ == "__main__":
    sys.exit(main())
