"""Preprocessed images in memory, or mapped, of a training."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from anowild.arrays import Array
from anowild.data.dataset.format import PackedReader
from anowild.data.image_stream import ImageStream
from anowild.data.preprocess_choice import choose_preprocess
from anowild.data.preprocessing import Preprocess
from anowild.data.readers import ImageSource, SkippedImage
from anowild.data.sources import ArraySource, Source, open_all
from anowild.data.value_range import ValueRange, little_used
from anowild.settings import Settings

log = logging.getLogger("anowild")


@dataclass
class ImageSet:
    """Preprocessed images, with their names and what was left out.

    Attributes:
        images: the squares that the views see, uint8 or uint16 [M, C, R, R]: one for each of the N images,
            or all of their tiles. The length of the set is M.
        names: of the N images.
        preprocess: that made the squares.
        left_out: images that could not be used.
        known_digest: what tells this set from others, where that is known without reading it.
        owners: number of the image that each square is of, int [M], ascending; None: each is one.
    """

    images: Array
    names: Sequence[str]
    preprocess: Preprocess
    left_out: list[SkippedImage] = field(default_factory=list)
    known_digest: str | None = None
    owners: Array | None = None
    #: What the images held before they were preprocessed; None: not known.
    values: ValueRange | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def groups(self) -> Array:
        """Number of the image that each square is of, int [M]."""
        return np.arange(len(self)) if self.owners is None else self.owners

    @property
    def digest(self) -> str:
        """Hash of the images; of a packed data set its id and split."""
        if self.known_digest is not None:
            return self.known_digest
        data = np.ascontiguousarray(self.images).data
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    @staticmethod
    def load(
        sources: Source | Sequence[Source],
        settings: Settings | None = None,
        preprocess: Preprocess | None = None,
    ) -> ImageSet:
        """Load all images into memory; a single packed data set is mapped instead.

        Args:
            sources: paths as for :func:`anowild.data.readers.open_source`, or arrays [N, H, W],
                [N, H, W, C] or [N, C, H, W].
            settings: decide the preprocessing if ``preprocess`` is not given.
            preprocess: that of a trained model.

        Raises:
            UserError: no image could be read.
        """
        readers = open_all(sources, ["train"])
        if len(readers) == 1 and isinstance(readers[0], PackedReader) and preprocess is None:
            return _mapped(readers[0], settings or Settings())
        return _read(readers, settings, preprocess)

    @staticmethod
    def of_pixels(
        pixels: Array, settings: Settings | None = None, preprocess: Preprocess | None = None
    ) -> ImageSet:
        """Preprocess images [N, H, W, C], with no guess about their axes; else as :meth:`load`."""
        return _read([ArraySource(pixels)], settings, preprocess)


def _read(
    readers: Sequence[ImageSource], settings: Settings | None, preprocess: Preprocess | None
) -> ImageSet:
    """Read and preprocess all images."""
    chosen = preprocess is None
    preprocess = preprocess or choose_preprocess(readers, settings or Settings())
    stream = ImageStream(readers, preprocess)
    parts = list(stream.batches(256))
    if chosen and (warning := little_used(stream.values, preprocess)):
        log.warning("%s", warning)
    images = np.concatenate([part.images for part in parts])
    names = list(chain.from_iterable(part.names for part in parts))
    counts = np.concatenate([np.bincount(part.owners) for part in parts])
    owners = np.repeat(np.arange(len(names)), counts) if preprocess.tiles else None
    return ImageSet(images, names, preprocess, stream.left_out, owners=owners, values=stream.values)


def _mapped(reader: PackedReader, settings: Settings) -> ImageSet:
    """Map a split of a packed data set into memory, without reading it."""
    packed, split = reader.packed, reader.splits[0]
    preprocess = choose_preprocess([reader], settings)
    images, owners = packed.squares(split)
    return ImageSet(
        images,
        packed.names(split),
        preprocess,
        known_digest=f"{packed.id}:{split}",
        owners=owners,
        values=ValueRange.from_json(packed.description.get("values")),
    )
