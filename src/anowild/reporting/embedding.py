"""The pictures of a report: each is embedded once, as long as there is room in the page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from anowild.data import Preprocess
from anowild.data.seen import seen_box, seen_text
from anowild.files import printable
from anowild.reviewing.pictures import Picture
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector
from anowild.shown import shown_score

#: Characters of all pictures of a page together: with its text it stays below 10 MB.
ROOM = 9_000_000
#: Bytes of a picture, at most; a larger one is encoded again, with these sides and qualities in turn.
MOST_BYTES, SMALLER = 24_000, ((320, 80), (320, 60), (240, 60), (160, 60))
#: Pictures with a shorter side are enlarged pixel by pixel, not blurred.
PIXELATED = 160

#: Left, top, width and height in pixels of a picture.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thumbnail:
    """An image of the report: its picture, and what is said of it wherever it is shown."""

    number: int
    name: str
    path: str  # the name without the folder that all images lie in
    rank: int
    score: str
    flagged: bool
    size: str  # of the original, and how the views see it
    link: str | None  # address of the file, where it is one
    url: str | None  # None: there was no room
    width: int
    height: int
    pixelated: bool
    box: Box | None  # what the views see, unless it is all
    missing: str = ""  # why there is no picture, if it is not for want of room

    @property
    def short_name(self) -> str:
        """The name without its folders."""
        return self.name.rpartition("/")[2] or self.name


class Embedded:
    """The pictures that a page embeds.

    Args:
        session: the images.
        detector: that scored them.
        limit: score from which they are flagged; None: none is.
        room: characters for all pictures together.
    """

    def __init__(
        self, session: ReviewSession, detector: Detector, limit: float | None, room: int = ROOM
    ) -> None:
        self.thumbnails: dict[int, Thumbnail] = {}
        self.absent = 0  # pictures for which there was no room
        self._session, self._detector, self._limit = session, detector, limit
        self._ranks = session.scores.ranks()
        self._room = room
        self._root = common_root(session.names)

    def thumbnail(self, number: int) -> Thumbnail:
        """Return an image of the session for the page; the same one wherever it is shown."""
        if number not in self.thumbnails:
            self.thumbnails[number] = self._made(number)
        return self.thumbnails[number]

    def pictures(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Return pictures small enough for the page; none if there is no room for all of them."""
        urls = [_small_url(base64.b64decode(p.url.partition(",")[2])) for p in pictures]
        if not self.takes(sum(map(len, urls)), len(urls)):
            return []
        return [replace(p, url=url) for p, url in zip(pictures, urls, strict=True)]

    def takes(self, size: int, count: int = 1) -> bool:
        """Reserve room for pictures of ``size`` characters; False if there is too little."""
        if size > self._room:
            self.absent += count
            return False
        self._room -= size
        return True

    def _made(self, number: int) -> Thumbnail:
        images, score = self._session.images, float(self._session.score[number])
        data = images.thumbnails[number]
        url = _small_url(data)
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
        original, picture_size = tuple(images.sizes[number].tolist()), (width, height)
        preprocess, tile = self._detector.preprocess, self._session.tile(number)
        size, box = how_seen(preprocess, original, picture_size, tile)
        return Thumbnail(
            number=number,
            name=printable(images.names[number]),
            path=printable(images.names[number].removeprefix(self._root)),
            rank=int(self._ranks[number]),
            score=shown_score(score, self._detector.training_images),
            flagged=self._limit is not None and score >= self._limit,
            size=size,
            link=address_of(images.path(number)),
            url=url if self.takes(len(url), 1) else None,
            width=width,
            height=height,
            pixelated=max(width, height) < PIXELATED,
            box=box,
        )


def common_root(names: Sequence[str]) -> str:
    """Return the folder that all names lie in, with the slash after it; empty if there is none."""
    common = os.path.commonprefix(names)  # noqa: RUF071 - it is cut after a folder
    return common[: common.rfind("/") + 1]


def address_of(path: Path | None) -> str | None:
    """Return the address of a file; None if it is none, or not here."""
    return path.absolute().as_uri() if path is not None and path.is_file() else None


def how_seen(
    preprocess: Preprocess,
    original: tuple[int, int],
    picture: tuple[int, int],
    tile: int | None = None,
) -> tuple[str, Box | None]:
    """Say how the views see an image, and frame what they see of it.

    Args:
        original: width and height of the image.
        picture: width and height of its picture, which the frame is drawn on.
        tile: that decides; None: the image is seen as one, or it is not known.

    Returns:
        The text; and the frame, None if they see all of it.
    """
    x, y, w, h = seen_box(preprocess, *original, tile)
    size = f"{original[0]}x{original[1]} pixels, seen: {seen_text(preprocess, *original)}"
    if (tile is None and preprocess.tiles) or (x <= 0 and y <= 0 and w >= 1 and h >= 1):
        return size, None
    return size, (x * picture[0], y * picture[1], w * picture[0], h * picture[1])


def shrunk(
    picture: Image.Image,
    sizes: Sequence[tuple[int, int]],
    fits: Callable[[bytes], bool],
    *,
    lossless: bool = False,
) -> bytes:
    """Scale a picture down until it fits, in place, and return its WebP file.

    Args:
        sizes: longer side in pixels, and quality, which are tried in turn; the last one is taken if none fits.
        fits: (file) -> whether it is small enough.
    """
    data = b""
    for side, quality in sizes:
        picture.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
        file = io.BytesIO()
        picture.save(file, "WEBP", lossless=lossless, quality=50 if lossless else quality, method=4)
        data = file.getvalue()
        if fits(data):
            break
    return data


def data_url(data: bytes) -> str:
    """Return the data URL of a WebP or PNG file."""
    kind = "png" if data.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _small_url(data: bytes) -> str:
    """Return the data URL of a WebP or PNG file, encoded again if it is large."""
    if len(data) > MOST_BYTES:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
        data = shrunk(picture, SMALLER, lambda file: len(file) <= MOST_BYTES)
    return data_url(data)
