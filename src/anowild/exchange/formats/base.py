"""The protocol of a format, and what it is given: scored images with their files or places.

A new format is a file in this package with a subclass of :class:`Format`, and an instance ``FORMAT`` of it.
Nothing else lists formats but docs/tools.md.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO

from anowild.errors import UserError
from anowild.files import printable
from anowild.scoring.scores import p_value

#: How a result comes to its images: it names the files where they are, or holds links, hard links or copies.
How = Literal["reference", "links", "hardlinks", "copies"]
#: Verdicts of a review by what they say of an image; ``unsure`` says nothing.
MARKED = {"keep": "usual", "remove": "odd", "interesting": "odd"}


@dataclass(frozen=True, slots=True)
class Box:
    """Place of a crop in its frame, in pixels of the frame."""

    source: str  # file of the frame
    frame: int | None  # number in a video or stack, from 0; None: the file is one frame
    top: int  # may be negative: the crop was padded
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class SharedImage:
    """A scored image, as a format is given it. All texts are valid Unicode."""

    name: str  # in the table of scores
    score: float
    flagged: bool
    views: dict[str, float]  # scores of the views alone
    why: str = ""
    findings: str = ""
    verdict: str | None = None  # of a review: what all reviewers agreed on, else "unsure"
    tags: tuple[str, ...] = ()
    file: Path | None = None  # absolute, as it will be when the result is in its place
    inside: Path | None = None  # the same, relative to the result, if it lies there
    box: Box | None = None  # for a format that needs crops

    @property
    def p_value(self) -> float:
        """Share of the training images that are as odd, or odder, from 0 to 1."""
        return float(p_value(self.score))

    @property
    def marked(self) -> str | None:
        """What a review says: "odd" or "usual"; None: nothing."""
        return None if self.verdict is None else MARKED.get(self.verdict)


@dataclass(frozen=True)
class Options:
    """What can be asked of some formats."""

    url_prefix: str | None = None  # what addresses of images begin with
    by_limit: bool = False  # whether the limit decides about images without a mark


class Format(ABC):
    """A format of another tool. What it writes is a folder."""

    name: ClassVar[str]
    #: What it needs of each image: its file, or its place in a frame.
    needs: ClassVar[Literal["file", "box"]] = "file"
    #: Ways to come to the images; the first is taken unless another is asked for.
    ways: ClassVar[Sequence[How]] = ("reference", "links", "hardlinks", "copies")
    #: Endings of files that the tool can show or read; others are written out as PNG. None: any.
    endings: ClassVar[frozenset[str] | None] = None
    #: Which options it has.
    options: ClassVar[frozenset[str]] = frozenset()

    def folder_of(self, image: SharedImage, options: Options) -> str | None:
        """Return the folder in the result that an image is put into, if it is; None: it is left out."""
        return "images"

    @abstractmethod
    def write(self, images: Sequence[SharedImage], folder: Path, options: Options) -> None:
        """Write the files of the format.

        Args:
            images: the oddest first.
            folder: exists, and may have images already.
            options: only those that it has.

        Raises:
            OSError: the files cannot be written.
            UserError: an image cannot be expressed in this format.
        """


def write_list(file: TextIO, items: Iterable[Any]) -> None:
    """Write a JSON array, one item a line, in memory that does not grow with their number."""
    file.write("[")
    starts = chain(["\n"], repeat(",\n"))
    file.writelines(start + json.dumps(item) for start, item in zip(starts, items, strict=False))
    file.write("\n]")


def text_of(file: Path | None) -> str:
    """Return the path of an image's file as text.

    Raises:
        UserError: the path is no valid text.
    """
    text = str(file)
    if printable(text) != text:
        raise UserError(
            f"{printable(text)}: its name is no valid UTF-8, and other tools cannot read it; rename the file, or "
            "give --how copies"
        )
    return text
