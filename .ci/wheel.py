"""Install the built wheel without extras, outside the repository, and use it as a user would.

What the wheel asks for, and nothing else, is linked from the environment that runs this script: copying
PyTorch again takes a minute. Core commands work; a command whose extra is missing says which one, before
it works.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TINY = [f"--set={change}" for change in (
    "resolution=16", "fmap_base=64", "fmap_max=8", "minibatch=16", "tick_kimg=0.2", "kimg=0.2",
    "transforms_kimg=0.2", "transforms_maps=4",
)]  # fmt: skip

#: Commands by the extra that they need; all would write something that begins with "made".
NEEDED = [
    ("formats", ["train", "film.mp4", "-o", "made"]),
    ("demo", ["demo", "-o", "made"]),
    ("demo", ["study", "run", "--data", ".", "--sets", "digits_3", "-o", "made"]),
    ("study", ["study", "run", "--data", ".", "--methods", "ecod", "-o", "made"]),
]


def main() -> None:
    """Build the environment in a temporary folder and run all checks there."""
    wheels, sdists = ([*(ROOT / "dist").glob(f"*{end}")] for end in (".whl", ".tar.gz"))
    assert len(wheels) == len(sdists) == 1, "dist holds one wheel and one sdist"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place / "venv", with_pip=True)
        python = place / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--no-index", "--no-deps", wheels[0]], check=True)
        (site,) = (place / "venv" / "lib").glob("python*/site-packages")
        (installed,) = distributions(name="anowild", path=[str(site)])
        link(needed(installed), site)
        subprocess.run([*pip, "check"], check=True)
        images = "import sys, numpy as np; from PIL import Image; from pathlib import Path\n"
        images += "folder = Path('images'); folder.mkdir(); rng = np.random.default_rng(0)\n"
        images += "for i in range(40):\n"
        images += "    pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)\n"
        images += "    Image.fromarray(pixels).save(folder / f'{i:02}.png')\n"
        images += "Path('film.mp4').write_bytes(b'\\0\\0\\0\\x18ftypmp42' + bytes(100))\n"
        subprocess.run([python, "-c", images], cwd=place, check=True)
        check(place)
    print("the wheel works without extras")


def needed(installed: Distribution) -> dict[str, Distribution]:
    """Return what a distribution needs without extras, directly or not, by name."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[Distribution, Iterable[str]]] = [(installed, ())]
    while waiting:
        one, extras = waiting.pop()
        for requirement in map(Requirement, one.requires or ()):
            asked = [{"extra": extra} for extra in ("", *extras)]
            name = canonicalize_name(requirement.name)
            if requirement.marker and not any(map(requirement.marker.evaluate, asked)):
                continue
            if name not in found or requirement.extras:
                found[name] = distribution(name)
                waiting.append((found[name], requirement.extras))
    return found


def link(wanted: dict[str, Distribution], site: Path) -> None:
    """Link the files of distributions into another environment, where no others may come with them."""
    owners: dict[Path, set[str]] = {}
    for one in distributions():
        name = canonicalize_name(one.name)
        for file in one.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                owners.setdefault(Path(str(one.locate_file(file.parts[0]))), set()).add(name)
    for path, names in owners.items():
        if names & wanted.keys():
            assert names <= wanted.keys(), f"{path} belongs to {names}"
            if not (site / path.name).exists():  # the environment comes with pip
                (site / path.name).symlink_to(path)


def check(place: Path) -> None:
    """Run the commands, each in a process of its own, two at a time where none needs another."""

    def anowild(*arguments: str) -> subprocess.CompletedProcess[str]:
        # No variable of the caller leads back to the repository.
        environment = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8"}
        command = [place / "venv" / "bin" / "anowild", *arguments]
        return subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )

    def works(*commands: list[str]) -> None:
        for arguments in commands:
            done = anowild(*arguments)
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    with ThreadPoolExecutor(2) as pool:
        chains = [
            pool.submit(
                works,
                ["train", "images", "-o", "model", *TINY],
                ["score", "model", "images", "-o", "scores.csv"],
                ["report", "model", "images", "-o", "report.html"],
            ),
            pool.submit(
                works,
                ["--help"],
                ["--version"],
                ["find", "images", "-o", "found", "--report", "--views", "pixels"],
                ["clean", "found/review", "-o", "cleaned"],
            ),
        ]
        refused = [pool.submit(anowild, *arguments) for _, arguments in NEEDED]
        for chain in chains:
            chain.result()
    with (place / "scores.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 40
    wrong = []
    for (extra, arguments), ended in zip(NEEDED, refused, strict=True):
        done = ended.result()
        sentence = done.stderr.strip()
        if (
            done.returncode != 1
            or f"anowild[{extra}]" not in sentence
            or "Traceback" in sentence
            or len(sentence.splitlines()) != 1
            or list(place.glob("made*"))
        ):
            wrong.append((extra, arguments, done.returncode, sentence, list(place.glob("made*"))))
    assert not wrong, "\n".join(map(str, wrong))


if __name__ == "__main__":
    sys.exit(main())
