"""Readers of image formats, one file for each; ``READERS`` lists them.

A reader opens a path and yields the images one by one. Where the format allows, it knows their shapes
without decoding them. To add a format, write a subclass of :class:`Reader` in a file of its own and add
it to ``READERS``: the first reader that takes a source opens it.
"""

from __future__ import annotations

from pathlib import Path

from anowild.data.readers.arrays import ArrayReader
from anowild.data.readers.base import ImageSource, Provenance, Reader, Record, SkippedImage
from anowild.data.readers.cifar import CifarReader
from anowild.data.readers.folder import FolderReader
from anowild.data.readers.hdf5 import Hdf5Reader
from anowild.data.readers.idx import IdxReader
from anowild.data.readers.mvtec import MVTecReader
from anowild.data.readers.parquet import ParquetReader
from anowild.data.readers.tfrecord import TFRecordReader
from anowild.data.readers.video import VideoReader
from anowild.data.readers.webdataset import WebDatasetReader
from anowild.data.readers.zarr_store import ZarrReader
from anowild.data.readers.zipped import ZipReader
from anowild.errors import UserError

# From specific to general: CIFAR's archive is a tar file, TFRecords may be in a zip file, and almost
# everything may be in a folder.
READERS: tuple[type[Reader], ...] = (
    ArrayReader,
    Hdf5Reader,
    ZarrReader,
    IdxReader,
    CifarReader,
    TFRecordReader,
    ZipReader,
    WebDatasetReader,
    ParquetReader,
    VideoReader,
    MVTecReader,
    FolderReader,
)

__all__ = [
    "READERS",
    "FolderReader",
    "ImageSource",
    "Provenance",
    "Reader",
    "Record",
    "SkippedImage",
    "open_source",
]


def open_source(source: str | Path) -> Reader:
    """Open a source of images by its path.

    Args:
        source: folder, image, archive, video or array file. ``file.npz:key`` selects one of several
            arrays, and ``file.parquet:column`` a column.

    Raises:
        UserError: there is no such path, or no reader takes it.
    """
    text = str(source)
    for reader in READERS:
        if reader.takes(text):
            return reader(text)
    if "://" in text:
        raise UserError(
            f"{text}: is on a server; `score` and `prepare` read it with --engine ray (docs/cluster.md)"
        )
    try:
        Path(text).stat()
    except FileNotFoundError:
        raise UserError(f"{text}: no such file or folder; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{text}: cannot be looked up ({reason}); check the path") from error
    raise UserError(
        f"{text}: is of no kind that can be read; give a folder or archive of images, an array file or a "
        "video (docs/data.md lists all kinds)"
    )
