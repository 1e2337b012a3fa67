"""One small file for each kind of source; ``READERS`` lists them.

A reader is made from a path, knows the shapes of its images without decoding them where the
format allows, and yields them one by one. To add a format, write a subclass of :class:`Reader`
in a file of its own and put it into ``READERS``: the first that takes a source reads it.
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

# From the particular to the general: CIFAR's archive is a tar, TFRecords may lie in a zip, and
# almost everything may lie in a folder.
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
    """The reader for a folder, an image file, or an array file (``file.npz:key`` picks an array).

    Raises:
        UserError: there is no such path, or no reader takes it.
    """
    text = str(source)
    for reader in READERS:
        if reader.takes(text):
            return reader(text)
    if not Path(text).exists():
        raise UserError(f"{text}: there is no such file or folder")
    kinds = "; ".join(reader.KIND for reader in READERS)
    raise UserError(f"{text}: is of no kind that can be read ({kinds})")
