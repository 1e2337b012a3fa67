"""Install the built wheel without extras, outside the repository, and use it as a user would.

Core commands work; a command whose extra is missing says which one, before it works.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

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
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-c", ROOT / "constraints.txt", wheels[0]], check=True)
        images = "import sys, numpy as np; from PIL import Image; from pathlib import Path\n"
        images += "folder = Path('images'); folder.mkdir(); rng = np.random.default_rng(0)\n"
        images += "for i in range(40):\n"
        images += "    pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)\n"
        images += "    Image.fromarray(pixels).save(folder / f'{i:02}.png')\n"
        images += "Path('film.mp4').write_bytes(b'\\0\\0\\0\\x18ftypmp42' + bytes(100))\n"
        subprocess.run([python, "-c", images], cwd=place, check=True)
        check(place)
    print("the wheel works without extras")


def check(place: Path) -> None:
    """Run the commands, each in a process of its own."""

    def anowild(*arguments: str) -> subprocess.CompletedProcess[str]:
        # No variable of the caller leads back to the repository.
        environment = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8"}
        command = [place / "venv" / "bin" / "anowild", *arguments]
        return subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )

    for arguments in (
        ["--help"],
        ["--version"],
        ["find", "images", "-o", "found", "--report", "--views", "pixels"],
        ["clean", "found/review", "-o", "cleaned"],
        ["train", "images", "-o", "model", *TINY],
        ["score", "model", "images", "-o", "scores.csv"],
        ["report", "model", "images", "-o", "report.html"],
    ):
        done = anowild(*arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    with (place / "scores.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 40
    wrong = []
    for extra, arguments in NEEDED:
        done = anowild(*arguments)
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
