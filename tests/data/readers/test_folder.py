"""Real pictures, read by us and by OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile

from anowild.arrays import Array
from anowild.data.readers import Record, open_source

PICTURES = Path(skimage.data.__file__).parent


def ours(path: Path) -> list[Array]:
    records = list(open_source(path))
    assert all(isinstance(record, Record) for record in records)
    return [record.pixels for record in records if isinstance(record, Record)]


def opencv_s(path: Path) -> Array:
    picture = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return picture[:, :, None] if picture.ndim == 2 else picture[:, :, 2::-1]


@pytest.mark.parametrize(
    "name",
    ["astronaut.png", "camera.png", "coins.png", "chelsea.png", "rocket.jpg", "hubble_deep_field.jpg"],
)  # fmt: skip
def test_pictures_that_others_made(name: str) -> None:
    (pixels,) = ours(PICTURES / name)
    assert np.array_equal(pixels, opencv_s(PICTURES / name))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
@pytest.mark.parametrize("picture", ["coffee.png", "cell.png"])
def test_pictures_that_opencv_wrote(tmp_path: Path, suffix: str, picture: str) -> None:
    path = tmp_path / f"x{suffix}"
    assert cv2.imwrite(str(path), np.asarray(cv2.imread(str(PICTURES / picture), -1)))
    (pixels,) = ours(path)
    expected = opencv_s(path)
    if suffix == ".webp" and pixels.shape[2] == 3 and expected.shape[2] == 1:
        expected = np.repeat(expected, 3, axis=2)  # WebP has no gray
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("name", ["multipage.tif", "multipage_rgb.tif"])
def test_pages_that_others_wrote(name: str) -> None:
    expected = tifffile.imread(PICTURES / name)
    if name == "multipage_rgb.tif":  # one plane behind the other
        expected = np.moveaxis(expected, 1, -1)
    pages = [np.squeeze(page) for page in ours(PICTURES / name)]
    assert np.array_equal(np.stack(pages), expected)
