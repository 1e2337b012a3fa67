"""What each format writes, held against what the tool's own code asks for."""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.data import PackedSet
from anowild.errors import UserError
from anowild.exchange.formats.base import SharedImage
from tests.exchange.conftest import NAMES


def tasks_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "tasks.json").read_text())
    return found


def test_the_p_value_is_a_share() -> None:
    for score, expected in ((0, 1), (2, 0.01), (-1, 1), (400, 0)):
        assert SharedImage("a", score, False, {}).p_value == pytest.approx(expected)


def test_fiftyone_has_a_type_for_each_field(scored: Path, tmp_path: Path) -> None:
    api.share(scored / "s.csv", scored / "my images", "fiftyone", tmp_path / "o")
    metadata = json.loads((tmp_path / "o" / "metadata.json").read_text())
    assert "version" not in metadata  # else FiftyOne asks for documents of its database
    assert metadata["media_type"] == "image"
    (samples,) = json.loads((tmp_path / "o" / "samples.json").read_text()).values()
    for sample in samples:
        assert sample.keys() == metadata["sample_fields"].keys()
        assert Path(sample["filepath"]).is_absolute()
        assert sample["mark"] is None


def test_label_studio_tasks_fit_their_configuration(scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    marks = scored / "review"
    api.share(scored / "s.csv", scored / "my images", "label-studio", out, marks=marks)
    config = ET.parse(out / "labels.xml").getroot()
    names = {element.get("name"): element.tag for element in config.iter() if element.get("name")}
    choices = {choice.get("value") for choice in config.iter("Choice")}
    variables = {value[1:] for e in config.iter() if (value := e.get("value", "")).startswith("$")}
    tasks = tasks_of(out)
    assert len(tasks) == 8
    for task in tasks:
        assert variables <= task["data"].keys()
        address = task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert re.fullmatch(r"[\w/%.~-]+", address, re.ASCII)
        assert Path("/", unquote(address)) == Path(task["data"]["name"])
        (prediction,) = task["predictions"]
        assert 0 <= prediction["score"] <= 1
        for found in (prediction, *task.get("annotations", ())):
            (region,) = found["result"]
            assert names[region["from_name"]] == "Choices"
            assert names[region["to_name"]] == "Image"
            assert set(region["value"]["choices"]) <= choices
        told = prediction["result"][0]["value"]["choices"]
        assert told == (["odd"] if task["data"]["flagged"] else ["usual"])
    labeled = {
        Path(task["data"]["name"]).relative_to(scored / "my images").as_posix(): task[
            "annotations"
        ][0]["result"][0]["value"]["choices"]
        for task in tasks
        if "annotations" in task
    }
    assert labeled == {"a.png": ["odd"], "sub/a.png": ["usual"], "g.png": ["odd"]}


def test_label_studio_addresses_begin_with_a_prefix(scored: Path, tmp_path: Path) -> None:
    prefix = "https://example.org/images/"
    out = tmp_path / "o"
    api.share(scored / "s.csv", scored / "my images", "label-studio", out, url_prefix=prefix)
    found = {unquote(task["data"]["image"].removeprefix(prefix)) for task in tasks_of(out)}
    assert found == set(NAMES)


def test_cleanvision_columns(scored: Path, tmp_path: Path) -> None:
    api.share(scored / "s.csv", scored / "my images", "cleanvision", tmp_path / "o")
    with (tmp_path / "o" / "issues.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["", "is_anowild_odd_issue", "anowild_odd_score"]
    assert {row[0] for row in rows} == {str(scored / "my images" / name) for name in NAMES}
    assert [row[1] for row in rows] == ["True"] * 3 + ["False"] * 5
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores)
    assert min(scores) >= 0
    assert max(scores) <= 1
    summary = (tmp_path / "o" / "issue_summary.csv").read_text()
    assert summary.split() == ["issue_type,num_images", "anowild_odd,3"]


def test_anomalib_folders_are_by_marks(scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    counts = api.share(
        scored / "s.csv", scored / "my images", "anomalib", out, marks=scored / "review"
    )
    assert (counts["shared"], counts["not decided, and left out"]) == (3, 5)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert found == {"abnormal/a.png", "abnormal/g.png", "normal/sub/a.png"}
    with (out / "decisions.csv").open(newline="") as file:
        told = {row["file"]: row["decided_by"] for row in csv.DictReader(file)}
    assert told == {
        "abnormal/a.png": "mark: remove", "abnormal/g.png": "mark: interesting",
        "normal/sub/a.png": "mark: keep",
    }  # fmt: skip


def test_anomalib_lets_the_limit_decide_where_asked(scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    with pytest.raises(UserError, match="no image is marked"):
        api.share(scored / "s.csv", scored / "my images", "anomalib", out)
    assert list(tmp_path.iterdir()) == []
    counts = api.share(
        scored / "s.csv", scored / "my images", "anomalib", out,
        marks=scored / "review", by_limit=True, threshold=-1.0,
    )  # fmt: skip
    # One is marked unsure: reviewers did not agree.
    assert (counts["shared"], counts["not decided, and left out"]) == (7, 1)
    assert (out / "normal" / "sub" / "a.png").is_symlink()
    assert not (out / "abnormal" / "=1+1.png").exists()
    with (out / "decisions.csv").open(newline="") as file:
        told = [row["decided_by"] for row in csv.DictReader(file)]
    assert sorted(told) == ["limit: reached"] * 4 + [
        "mark: interesting",
        "mark: keep",
        "mark: remove",
    ]


def test_anomalib_gets_png_for_what_it_would_pass_over(
    digits: Array, table_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(digits[0]).save(folder / "a.jfif", format="JPEG")
    Image.fromarray(digits[1]).save(folder / "b.png")
    out = tmp_path / "o"
    table = table_of([folder / "a.jfif", folder / "b.png"])
    api.share(table, folder, "anomalib", out, by_limit=True)
    assert [path.name for path in (out / "abnormal").iterdir()] == ["a.jfif.png"]
    assert [path.name for path in (out / "normal").iterdir()] == ["b.png"]


def test_anomalib_needs_normal_images_and_no_others(
    folder_of: Callable[..., Path], digits: Array, table_of: Callable[..., Path], tmp_path: Path
) -> None:
    folder = folder_of(digits[:2])
    table, out = table_of(sorted(folder.iterdir())), tmp_path / "o"
    with pytest.raises(UserError, match="no image is normal"):
        api.share(table, folder, "anomalib", out, by_limit=True, threshold=0.0)
    api.share(table, folder, "anomalib", out, by_limit=True, threshold=9.0)
    assert {path.name for path in out.iterdir()} == {"normal", "decisions.csv"}


def test_napari_boxes_hold_the_crops(
    crops: Path, table_of: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = PackedSet(crops / "set").manifest(split="train").to_pylist()
    names = [row["name"] for row in manifest]
    out = tmp_path / "o"
    counts = api.share(table_of(names), crops / "set", "napari", out)
    assert counts == {"shared": len(names), "flagged": 1}
    assert {path.name for path in out.iterdir()} == {
        "stack.tif.points.csv", "stack.tif.shapes.csv", "stack.tif.flagged.shapes.csv",
        "one.png.points.csv", "one.png.shapes.csv",
    }  # fmt: skip
    by_name = {row["name"]: row for row in manifest}
    for file, axes in (("stack.tif", 3), ("one.png", 2)):
        with (out / f"{file}.points.csv").open(newline="") as opened:
            points = list(csv.DictReader(opened))
        with (out / f"{file}.shapes.csv").open(newline="") as opened:
            corners = list(csv.DictReader(opened))
        assert [name for name in corners[0] if name.startswith("axis-")] == [
            f"axis-{i}" for i in range(axes)
        ]
        assert {corner["shape-type"] for corner in corners} == {"rectangle"}
        assert [int(c["index"]) for c in corners] == [i for i in range(len(points)) for _ in "abcd"]
        for i, point in enumerate(points):
            row = by_name[point["name"]]
            vertices = np.array(
                [[float(c[f"axis-{a}"]) for a in range(axes)] for c in corners[4 * i : 4 * i + 4]]
            )
            if axes == 3:
                assert (vertices[:, 0] == row["frame"]).all()
                assert int(point["axis-0"]) == row["frame"]
            center = [float(point[f"axis-{axes - 2}"]), float(point[f"axis-{axes - 1}"])]
            assert np.allclose(vertices[:, -2:].mean(axis=0), center)
            low, high = vertices[:, -2:].min(axis=0), vertices[:, -2:].max(axis=0)
            assert (low + 0.5).tolist() == [row["top"], row["left"]]
            assert (high - low).tolist() == [row["height"], row["width"]]
            # The object is bright, and in the middle of its crop.
            picture = Image.open(crops / file)
            picture.seek(row["frame"] or 0)
            pixels = np.asarray(picture)
            assert pixels[tuple(np.round(center).astype(int))] > 150
    flagged = [
        row
        for row in csv.DictReader((out / "stack.tif.points.csv").open())
        if row["flagged"] == "1"
    ]
    assert [row["name"] for row in flagged] == names[:1]


def test_napari_files_of_the_same_name_stay_apart(
    crops: Path, table_of: Callable[..., Path], tmp_path: Path
) -> None:
    from anowild.exchange.formats.base import Box, Options
    from anowild.exchange.formats.napari import FORMAT

    images = [
        SharedImage(f"{top}/v.mp4[0]@5,5", 1.0, False, {}, box=Box(f"{top}/v.mp4", 0, -2, 1, 4, 4))
        for top in "ab"
    ]
    FORMAT.write(images, tmp_path, Options())
    assert {path.name for path in tmp_path.iterdir()} == {
        "v.mp4.points.csv", "v.mp4.shapes.csv", "v.mp4-2.points.csv", "v.mp4-2.shapes.csv",
    }  # fmt: skip


def test_napari_refuses_crops_of_an_array(
    crops: Path, table_of: Callable[..., Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 16, 16), np.uint8))
    settings = api.PREPARED.replace(resolution=16)
    api.prepare(tmp_path / "i.npy", tmp_path / "set", settings)
    with pytest.raises(UserError, match="is no crop of a frame"):
        api.share(table_of(["x"]), tmp_path / "set", "napari", tmp_path / "o")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_sentence(scored: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        api.share(scored / "s.csv", scored / "my images", "cleanvision", tmp_path / "o")
