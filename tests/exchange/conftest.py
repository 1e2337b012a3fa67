from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.data.crops import CropSettings
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Store
from anowild.scoring import Detector
from anowild.scoring.threshold_rules import Budget
from anowild.settings import Settings
from tests.data.crops.frames import PLACES, drawn

#: Names of the images that are shared, below a folder with a blank.
NAMES = (
    "a.png",
    "sub/a.png",
    "sub/b c.png",
    "Zelle ü.png",
    "100 %.png",
    "=1+1.png",
    "f#1?.png",
    "g.png",
)


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory, detector: Detector, digits: Array) -> Path:
    """A folder with the images `my images`, the tables s.csv and s.parquet with 3 flagged, and a review."""
    folder = tmp_path_factory.mktemp("shared")
    for name, image in zip(NAMES, digits, strict=False):
        path = folder / "my images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    for table in ("s.csv", "s.parquet"):
        api.score(detector, folder / "my images", folder / table, Budget(3))
    ReviewSession.make(folder / "review", detector, str(folder / "my images"))
    store = Store(folder / "review" / MARKS)
    images = folder / "my images"
    for name, reviewer, verdict in (
        ("a.png", "Ada", "remove"), ("sub/a.png", "Ada", "keep"), ("g.png", "Ada", "interesting"),
        ("=1+1.png", "Ada", "keep"), ("=1+1.png", "Bo", "remove"),
    ):  # fmt: skip
        store.mark([str(images / name)], reviewer, verdict)
    store.tag([str(images / "a.png")], "Bo", "dust", on=True)
    store.close()
    return folder


@pytest.fixture
def table_of(tmp_path: Path) -> Callable[..., Path]:
    """Write a table of scores: names with scores from 3 downwards; the first is flagged."""

    def write(names: Sequence[object], file: str = "t.csv") -> Path:
        rows = [f'"{name}",{3 - 0.25 * i},{i + 1},{int(i == 0)}' for i, name in enumerate(names)]
        text = "\n".join(["path,score,rank,odd", *rows]) + "\n"
        path = tmp_path / file
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packed set `set`: crops of 3 pages of stack.tif and of the single frame one.png."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("crops")
    frames = [drawn([(r + 3 * i, c) for r, c in PLACES], seed=i)[:, :, 0] for i in range(4)]
    first, *others = map(Image.fromarray, frames[:3])
    first.save(folder / "stack.tif", save_all=True, append_images=others)
    Image.fromarray(frames[3]).save(folder / "one.png")
    settings = Settings().replace(resolution=16, max_resolution=16)
    sources = [folder / "stack.tif", folder / "one.png"]
    api.prepare(sources, folder / "set", settings, crops=CropSettings(16, levels="video"))
    return folder
