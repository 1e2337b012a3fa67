"""Where the images of a table are: files of their own, pixels in other files, or crops of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anowild.arrays import Array
from anowild.data.dataset.format import PackedReader
from anowild.data.readers import FolderReader, ImageSource, Record
from anowild.data.sources import Source, open_all
from anowild.errors import UserError
from anowild.exchange.formats.base import Box, Format, Options, SharedImage
from anowild.exchange.pictures import Pictures
from anowild.exchange.tables import ScoredImages
from anowild.files import absolute, is_folder
from anowild.progress import bar


class Places:
    """Finds the images of a table in sources.

    Attributes:
        others: how many images of the sources are not in the table.

    Raises:
        UserError: on construction, if a source cannot be opened.
    """

    def __init__(self, sources: Sequence[Source], table: ScoredImages) -> None:
        self.table = table
        self.others = 0
        self._sources = list(zip(sources, open_all(sources), strict=True))

    def check_outside(self, out: Path) -> None:
        """Check that a result does not lie in a folder of images, where it would be taken for more of them.

        Raises:
            UserError: it does.
        """
        for source, reader in self._sources:
            if isinstance(reader, FolderReader) and absolute(out).is_relative_to(
                absolute(reader.root)
            ):
                raise UserError(
                    f"{out}: lies in {source}, so its images would be scored as well; name another folder"
                )

    @property
    def roots(self) -> list[Path]:
        """Folders that the images are in, as far as they come from files."""
        found = []
        for source, reader in self._sources:
            place = reader.root if isinstance(reader, FolderReader) else None
            if place is None and any(True for _ in reader.files()):
                place = Path(str(source))
            if place is not None:
                place = absolute(place)
                # Of anything but a folder of images, the names begin with the name of the source.
                inside = isinstance(reader, FolderReader) and is_folder(place)
                found.append(place if inside else place.parent)
        return found

    def with_files(
        self, to: Format, options: Options, pictures: Pictures
    ) -> dict[int, SharedImage]:
        """Return the images with their files, by their numbers in the table; what `to` leaves out has none.

        Images that are no files of their own, and files that the tool does not read, are written as PNG.

        Raises:
            UserError: a file cannot be linked, copied or written; a source has no pictures.
        """
        found: dict[int, SharedImage] = {}
        with bar("images found", len(self.table.images)) as progress:
            for source, reader in self._sources:
                for name, content in _images(source, reader, self.table, to.endings):
                    number = self._number(name, found)
                    if number is None:
                        continue
                    image = self.table.images[number]
                    below = to.folder_of(image, options)
                    if below is not None:
                        file = pictures.put(name, content, below)
                        image = replace(image, file=file, inside=pictures.inside(file))
                    found[number] = image
                    progress.update(len(found))
        return found

    def with_boxes(self) -> dict[int, SharedImage]:
        """Return the images with their places in frames, by their numbers in the table.

        Raises:
            UserError: a source does not hold crops.
        """
        found: dict[int, SharedImage] = {}
        for source, reader in self._sources:
            for name, box in _boxes(source, reader):
                number = self._number(name, found)
                if number is not None:
                    found[number] = replace(self.table.images[number], box=box)
        return found

    def _number(self, name: str, found: dict[int, SharedImage]) -> int | None:
        """Return the number of an image that the table lists.

        Raises:
            UserError: another image with that name was found before.
        """
        number = self.table.find(name)
        if number is None:
            self.others += 1
        elif number in found:
            raise UserError(
                f"{self.table.images[number].name}: the sources have two images of this name; give each source once"
            )
        return number


def _images(
    source: Source, reader: ImageSource, table: ScoredImages, endings: frozenset[str] | None
) -> Iterator[tuple[str, Path | Array]]:
    """Yield the name of all images, and their files, unread, where they are needed as they are, or pixels."""
    if isinstance(reader, FolderReader):
        rest = []
        for path in reader.paths:
            listed = table.find(str(path)) is not None
            if listed and (endings is None or path.suffix.lower() in endings):
                yield str(path), path
            elif listed or table.has_pages(str(path)):
                rest.append(path)
            else:
                yield str(path), path  # counted as one of the others
        reader.paths = rest
    if reader.packed is not None and reader.packed.preprocess.tiles:
        raise UserError(
            f"{source}: holds tiles, not whole images; give the images that it was made of"
        )
    for record in reader.records():
        if isinstance(record, Record):
            yield record.name, record.pixels


def _boxes(source: Source, reader: ImageSource) -> Iterator[tuple[str, Box]]:
    if not isinstance(reader, PackedReader):
        raise UserError(
            f"{source}: its images are no crops of frames; give the packed data set of crops that was scored "
            "(anowild prepare --crop-objects)"
        )
    columns = ["name", "source", "frame", "top", "left", "height", "width"]
    for split in reader.splits:
        for batch in reader.packed.manifest(columns, split).to_batches(4096):
            for row in batch.to_pylist():
                if row["top"] is None or row["source"] is None:
                    raise UserError(
                        f"{source}: {row['name']} is no crop of a frame in a file; give a data set of crops "
                        "(anowild prepare --crop-objects)"
                    )
                yield row.pop("name"), Box(**row)
