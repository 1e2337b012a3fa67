"""Folders of image files, nested or not, and single image files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps

from anowild.data.readers.base import Record, Unreadable
from anowild.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

_GRAY_16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class FolderReader:
    """PNG, JPEG, TIFF, BMP and WebP files, in the order of their paths.

    Links to folders are not followed; names that begin with a dot are passed over. Of a file
    with several pages the first is read.
    """

    KIND: ClassVar[str] = "folder of images, or an image file"

    def __init__(self, source: str) -> None:
        self.root = Path(source)
        self.others = 0
        if self.root.is_file():
            self.paths = [self.root]
        else:
            self.paths = sorted(self._walk())
        if not self.paths:
            found = f"its {self.others} files are of other kinds" if self.others else "it is empty"
            raise UserError(
                f"{self.root}: holds no images ({found}); "
                f"these endings are read: {', '.join(sorted(SUFFIXES))}"
            )

    @staticmethod
    def takes(source: str) -> bool:
        path = Path(source)
        return path.is_dir() or (path.is_file() and path.suffix.lower() in SUFFIXES)

    def _walk(self) -> Iterator[Path]:
        def failed(error: OSError) -> None:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

        for folder, folders, files in os.walk(self.root, onerror=failed):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if name.startswith("."):
                    continue
                if Path(name).suffix.lower() in SUFFIXES:
                    yield Path(folder, name)
                else:
                    self.others += 1

    def __len__(self) -> int:
        return len(self.paths)

    def shapes(self) -> Iterator[tuple[int, int, int]]:
        for path in self.paths:
            try:
                with Image.open(path) as image:
                    yield image.height, image.width, 1 if _is_gray(image.mode) else 3
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                continue

    def __iter__(self) -> Iterator[Record | Unreadable]:
        for path in self.paths:
            try:
                yield Record(str(path), read_image(path))
            # Pillow's decoders raise these, and more, on damaged files.
            except Exception as error:
                yield Unreadable(str(path), _reason(error))


def read_image(path: Path) -> np.ndarray[Any, Any]:
    """Decode one file: [H, W, 1] or [H, W, 3], of type uint8, uint16 or float.

    Colour tables, transparency and CMYK become RGB; the EXIF orientation is applied.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode in _GRAY_16:
                values = np.asarray(upright).astype(np.int64)
                if values.min() < 0 or values.max() > 65535:
                    raise ValueError("its values do not fit into 16 bits")
                return values.astype(np.uint16)[:, :, None]
            if upright.mode == "F":
                return np.asarray(upright, dtype=np.float32)[:, :, None]
            if _is_gray(upright.mode):
                return np.asarray(upright.convert("L"))[:, :, None]
            return np.asarray(upright.convert("RGB"))


def _is_gray(mode: str) -> bool:
    return mode in ("1", "L", "LA", "La", "F", *_GRAY_16)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "it claims an implausible number of pixels"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.replace("\n", " ") or type(error).__name__
