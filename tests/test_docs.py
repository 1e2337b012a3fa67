"""Pages of the documentation: every command and every block of Python in them runs, or is counted."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from anowild import presets
from anowild.arrays import Array
from anowild.cli import app
from anowild.data import ImageSet
from anowild.finding import serve as finding
from anowild.http.listening import listen
from anowild.reviewing import serve as reviewing
from anowild.scoring import Detector
from anowild.views import base, gan
from tests.conftest import SHARED, Run, tiny_settings
from tests.parts import table_in_parts

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("sh", "bash", "shell", "console", "")
#: Languages of blocks that are no commands: what is printed, files, drawings.
SHOWN = ("text", "json", "csv", "toml", "yaml", "ini", "dockerfile", "html")

#: How commands, and imports of Python, begin that no test of this file runs, by the reason. Those of ours are
#: parsed all the same.
NOT_RUN = {
    "installs or downloads": (
        "python3 -m venv", "source", "pip", "npm", "PEERS/bin/pip", ".venv/bin/pre-commit", "anowild data fetch",
    ),
    "has tests of its own": (
        "make", "anowild demo", "anowild serve", "anowild watch", "python -m anowild.paper.parity",
        ".venv/bin/python -m pytest",
    ),
    "needs the Hub": ("anowild push", "from anowild import from_pretrained, push_to_hub, save_pretrained"),
    "measures for minutes to days": ("python -m bench", "anowild study"),
    "needs another program": (
        "from anowild.cluster.score", "curl", "napari", "tensorboard", "import fiftyone", "from cleanvision",
        "from anomalib.data import Folder", "anowild export model -o page.html", "torchrun",
    ),
}  # fmt: skip
#: How many commands and blocks of Python of all pages these are: who adds one adds it here.
NUMBERS = {
    "installs or downloads": 17,
    "has tests of its own": 26,
    "needs the Hub": 4,
    "measures for minutes to days": 69,
    "needs another program": 14,
}

#: What the reader of a page has: folders of images ("name/"), of labeled ones, files, what commands have made.
GIVEN = {
    "README.md": ["my_images/"],
    "cells.md": ["cells_video"],
    "data.md": [
        "SOURCE/", "video.mp4", "things: good bad", "classes: automobile cat",
        "anowild prepare things -o labeled --labels things.csv",
        "anowild prepare classes -o cifar10 --labels classes.csv",
        "anowild prepare video.mp4 -o cells --crop-objects --object-size 56",
    ],
    "export.md": ["my_images/", "anowild train my_images/ -o model"],
    "faq.md": ["my_images/", "anowild train my_images/ -o model"],
    "first_minutes.md": ["my_images/"],
    "howto_compare.md": ["train/", "labeled: 0 1", "test: 0 1"],
    "howto_line.md": ["last_month/", "today/"],
    "howto_microscope.md": ["video.mp4", "crops/", "plate2/"],
    "howto_training_set.md": ["train/", "photos/", "test/"],
    "hub.md": ["TEST: 0 1", "anowild train TEST -o model"],
    "large_sets.md": ["IMAGES/", "anowild train IMAGES -o model", "scores, a table in parts"],
    "python.md": ["images: 0 1"],
    "review.md": ["IMAGES/", "anowild train IMAGES -o model"],
    "tools.md": [
        "IMAGES/", "video.mp4", "anowild train IMAGES -o model", "anowild score model IMAGES -o scores.csv --budget 2",
        "anowild review model IMAGES -o review",
    ],
    "trackers.md": ["IMAGES/"],
    "thresholds.md": ["IMAGES/", "TODAY/", "anowild train IMAGES -o model"],
}  # fmt: skip


class Block(NamedTuple):
    """A block of code of a page: its first line, its language ("": indented), its text."""

    line: int
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start = 0
    while start < len(lines):
        fence = re.fullmatch(r"```(\w*)", lines[start])
        indented = lines[start].startswith("    ") and (start == 0 or not lines[start - 1])
        if not fence and not indented:
            start += 1
            continue
        begin = start + bool(fence)
        end = begin
        while lines[end] != "```" if fence else lines[end : end + 1] and lines[end][:4] == "    ":
            end += 1
        text = "\n".join(line if fence else line[4:] for line in lines[begin:end])
        yield Block(begin + 1, (fence[1] or "text") if fence else "", text)
        start = end + 1


def commands(page: Path) -> Iterator[str]:
    """All commands of a page in their order, without comments and redirections."""
    for block in blocks(page):
        if block.language in SHELL:
            yield from commands_of(block.text)


def commands_of(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"\s&&\s", line):
            words = shlex.split(command.partition(" > ")[0], comments=True)
            if words and re.fullmatch(r"\w+=\S*", words[0]):
                words = words[1:]  # a variable of the environment
            if words:
                yield shlex.join(words)


def reason_not_to_run(command: str) -> str | None:
    """Return why a command, or a block of Python with this line, does not run; None: it does."""
    if "hf://" in command:
        return "needs the Hub"
    if "--engine ray" in command:
        return "has tests of its own"
    for reason, beginnings in NOT_RUN.items():
        if any(f"{command} ".startswith(f"{beginning} ") for beginning in beginnings):
            return reason
        if reason.startswith("measures") and command.startswith("python -m bench."):
            return reason
    return None


def reason_of_python(text: str) -> str | None:
    found = map(reason_not_to_run, text.splitlines())
    return next((reason for reason in found if reason and reason.startswith("needs")), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        assert block.language in (*SHELL, *SHOWN, "python"), f"{place}: mark it as sh or text"
        if block.language not in SHOWN:
            continue
        shown = [line for line in block.text.splitlines() if line.startswith("anowild ")]
        assert [line for line in shown if "[OPTIONS]" not in line] == [], f"{place}: mark it as sh"


def test_what_does_not_run_is_counted() -> None:
    found = Counter(reason_not_to_run(command) for page in PAGES for command in commands(page))
    found += Counter(
        reason_of_python(block.text)
        for page in PAGES
        for block in blocks(page)
        if block.language == "python"
    )
    assert {reason: found[reason] for reason in NUMBERS} == NUMBERS
    assert found[None] > 70


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_pages_give_them(
    monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    monkeypatch.setattr("anowild.hub.model_folder", Path)  # parsing hf://owner/name downloads it
    for command in commands(page):
        program, *arguments = shlex.split(command)
        if program == "anowild":
            parse(arguments)
        elif arguments[:1] == ["-m"] and arguments[1].startswith("bench"):
            name, _, sub = arguments[1].partition(".")
            assert name == "bench"
            check_bench([sub, *arguments[2:]] if sub else arguments[2:])


@functools.cache
def command_line() -> Any:
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """Let Typer parse a command without running it: an option that is not there ends this."""
    command = command_line()
    context = typer.Context(command, info_name="anowild")
    while hasattr(command, "get_command") and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
        if not hasattr(command, "get_command"):
            command.make_context(name, arguments, parent=context)


def check_bench(arguments: list[str]) -> None:
    from bench.__main__ import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as end:
        main([arguments[0], "--help"])
    assert end.value.code == 0
    for option in arguments:
        if option.startswith("--"):
            assert option in said.getvalue(), f"bench {arguments[0]} has no {option}"


class TrainingHere(finding.Training):
    """The training of `find` in this process, done before the page is served."""

    def __init__(self, job: Any, review: Any) -> None:
        self.job, self.review = job, review

    def __enter__(self) -> TrainingHere:
        self._rank_again()
        return self

    def __exit__(self, *_: object) -> None:
        pass


def mark_and_stop(self: reviewing.Server, review: Any, *_: object) -> None:
    """Look at a page as somebody does who removes an image, keeps another, and presses Ctrl-C."""
    first, last = review.catalog.names_of([0, len(review.catalog) - 1])
    review.store.mark([first], "me", "remove")
    review.store.mark([last], "me", "keep")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make every command of a page take a moment: one view, small images, a page that is closed at once."""
    few = {"views": (("pixels",), "test"), "max_resolution": (16, "test")}
    for name in ("laptop", "quick"):
        whole = presets.PRESETS[name]
        less = presets.Preset(whole.summary, {**whole.changes, **few})
        monkeypatch.setitem(presets.PRESETS, name, less)
    monkeypatch.setattr("anowild.cli.app", command_line())  # Typer takes a while to make it
    monkeypatch.setattr("anowild.reviewing.serve.listen", lambda host, port: listen(host, 0))
    monkeypatch.setattr(reviewing.Server, "run", mark_and_stop)
    monkeypatch.setattr(finding, "Training", TrainingHere)
    monkeypatch.chdir(tmp_path)


def give(thing: str, digits: Array, number: int) -> None:
    """Make what the reader of a page has."""
    own = digits[25 * number :][:25]
    if thing == "video.mp4":
        write_video(Path(thing))
    elif thing.endswith("/"):
        write_images(Path(thing), own)
    elif thing == "scores, a table in parts":
        table_in_parts(Path("scores"), Detector.load("model"), "IMAGES", (10,))
    elif thing == "cells_video":
        Path(thing).symlink_to(SHARED / thing)
    else:
        folder, _, classes = thing.partition(": ")
        write_labeled(Path(folder), own, classes.split())


def write_images(folder: Path, images: Array) -> list[Path]:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return sorted(folder.iterdir())


def write_labeled(folder: Path, images: Array, classes: list[str]) -> None:
    """Write a training and a test split, a fifth of either of the second class, and their labels."""
    files = write_images(folder / "train", images[:15]) + write_images(folder / "test", images[15:])
    rows = [(file, classes[i % 5 == 4]) for i, file in enumerate(files)]
    for name in {f"{folder}.csv", "labels.csv"}:
        with Path(name).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows])


def write_video(file: Path) -> None:
    """Write 6 frames of noise, each with a bright disk of 56 pixels."""
    import av

    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:192, :192]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 192
        for _ in range(6):
            frame = random.normal(40, 4, rows.shape)
            row, column = random.uniform(40, 152, 2)
            frame[(rows - row) ** 2 + (columns - column) ** 2 < 28**2] += 120
            gray = np.repeat(frame.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode())


def run(anowild: Run, command: str) -> None:
    """Run a command of a page: it has to succeed, and to leave what it was asked for."""
    program, *arguments = shlex.split(command)
    assert program == "anowild", f"no test knows how to run: {command}"
    code, _, err = anowild(*arguments)
    assert code in ((0, 3) if "--exit-code" in arguments else (0,)), f"{command}\n{err}"
    for option, value in pairwise(arguments):
        assert option not in ("-o", "--out") or value == "-" or Path(value).exists(), command


def pages_that_run() -> Iterator[Any]:
    """Pages by name; the commands of some take seconds, and the video of one is not in a clone."""
    slow = {
        "cells.md", "data.md", "export.md", "faq.md", "howto_compare.md", "howto_line.md", "howto_microscope.md",
        "howto_training_set.md", "python.md", "review.md", "tools.md",
    }  # fmt: skip
    for page in PAGES:
        marks = [pytest.mark.slow] * (page.name in slow) + [pytest.mark.shared] * (
            "cells_video" in GIVEN.get(page.name, ())
        )
        if page.name != "CONTRIBUTING.md":
            yield pytest.param(page.name, marks=marks)


@pytest.mark.parametrize("name", list(pages_that_run()))
def test_page_runs(small: None, anowild: Run, digits: Array, name: str) -> None:
    for number, thing in enumerate(GIVEN.get(name, [])):
        if thing.startswith("anowild "):
            run(anowild, thing)
        else:
            give(thing, digits, number)
    page = next(page for page in PAGES if page.name == name)
    names: dict[str, Any] = {}  # a block goes on from those before it
    for block in blocks(page):
        if block.language == "python":
            code = compile(block.text, f"{name}:{block.line}", "exec")
            if reason_of_python(block.text) is None:
                exec(code, names)
        elif block.language in SHELL:
            for command in commands_of(block.text):
                if reason_not_to_run(command) is None:
                    run(anowild, command)


@pytest.mark.slow
def test_the_study_of_the_docs_runs(small: None, anowild: Run) -> None:
    study = [
        c for c in commands(ROOT / "docs" / "howto_compare.md") if c.startswith("anowild study")
    ]
    assert len(study) == 3
    for command in study:
        code, out, err = anowild(*shlex.split(command)[1:])
        assert code == 0, err
    assert "| PCA reconstruction |" in out


def test_the_view_and_the_cue_of_the_guide_work(
    monkeypatch: pytest.MonkeyPatch, image_set: ImageSet, tmp_path: Path
) -> None:
    cue, looking, fitting = [
        block.text for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python"
    ]
    monkeypatch.setattr(gan, "CUES", dict(gan.CUES))
    monkeypatch.setattr(base, "_VIEWS", dict(base._VIEWS))
    taken = {
        known.name for name in base.view_names() for known in base.view_class(name).known_cues()
    }
    taken |= gan.CUES.keys()
    exec(cue, vars(gan))
    (added,) = gan.CUES.keys() - taken
    halves = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).repeat_interleave(4, dim=1).expand(1, 8, 2, 8)
    compute: Any = gan.CUES[added].compute
    assert compute(SimpleNamespace(images=halves.transpose(0, 2))).tolist() == [1, 0]
    module = ModuleType("anowild.views.edges")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(looking, vars(module))
    fit: dict[str, Any] = {}
    exec(fitting, fit)
    fitted = fit["fit"](image_set, tiny_settings(), tmp_path, torch.device("cpu")).view
    assert fitted.measure(image_set.images)["edges"].mean() == pytest.approx(1)
    assert base.view_class("edges") is type(fitted)


NAMED = re.findall(
    r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_promises_name_tests_that_exist(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_section_of_promises_names_a_test() -> None:
    assert len(NAMED) > 20
