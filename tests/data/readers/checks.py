"""What must hold for every reader."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from anowild.arrays import Array
from anowild.data.readers import Reader, Record, SkippedImage

PICTURES = Path(skimage.data.__file__).parent


def picture(name: str) -> Array:
    """A real photograph that comes with scikit-image, without loading what it would download."""
    return np.asarray(Image.open(PICTURES / name))


def crops(name: str, count: int = 6, height: int = 40, width: int = 56) -> list[Array]:
    """Different cut-outs of a photograph, [H, W] or [H, W, 3]."""
    image = picture(name)
    return [image[20 + 9 * i :, 30 + 11 * i :][:height, :width].copy() for i in range(count)]


def check(reader: Reader, expected: Iterable[Array]) -> list[Record]:
    """All images are read, exactly as expected, and alike from wherever one begins."""
    records = list(reader)
    readable = [record for record in records if isinstance(record, Record)]
    wanted = [image if image.ndim == 3 else image[:, :, None] for image in expected]
    assert len(readable) == len(wanted)
    for record, image in zip(readable, wanted, strict=True):
        assert record.pixels.dtype == image.dtype.newbyteorder("=")
        assert record.pixels.shape == image.shape
        assert np.array_equal(record.pixels, image), record.name
    check_starts(reader, records)
    if len(readable) == len(records):
        shapes = set(reader.shapes(1000))
        assert shapes
        assert shapes <= {image.shape for image in wanted}
    return readable


def check_starts(reader: Reader, records: list[Record | SkippedImage]) -> None:
    """Reading from an offset gives the same records."""
    assert len({record.name for record in records}) == len(records)
    assert reader.count() in (None, len(records))
    assert all(path.is_file() for path in reader.files())
    for start in {0, 1, 2, len(records) // 2, len(records) - 1, len(records), len(records) + 3}:
        again = list(reader.records(start))
        assert [r.name for r in again] == [r.name for r in records[start:]]
        for a, b in zip(again, records[start:], strict=True):
            assert type(a) is type(b)
            assert a.origin == b.origin
            if isinstance(a, Record) and isinstance(b, Record):
                assert np.array_equal(a.pixels, b.pixels)


def reasons(reader: Reader) -> dict[str, str]:
    """Why each of the unreadable images is so."""
    return {r.name: r.reason for r in reader if isinstance(r, SkippedImage)}
