"""Everything about one image of a review: why it ranks where it does, its original, its explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anowild.arrays import Array
from anowild.data import Preprocess
from anowild.data.display import display, encoded_picture, window
from anowild.data.preprocessing import resize
from anowild.errors import UserError
from anowild.files import printable
from anowild.reviewing import pictures as drawings
from anowild.reviewing.images import ReviewImages

if TYPE_CHECKING:
    from anowild.reviewing.ranking import Ranking
    from anowild.scoring import Detector

#: Reference images beside an image, and duplicates that are listed.
NEIGHBORS, MOST_DUPLICATES = 5, 24
#: Longer side of a heat map over a picture that was seen in tiles, in pixels.
MAP_SIDE = 512


def facts(ranking: Ranking, number: int) -> dict[str, Any]:
    """Return what is known about an image, as JSON values, within milliseconds."""
    session, detector = ranking.session, ranking.detector
    pictures, name = session.images, session.names[number]
    scores = session.scores.select(np.array([number]))
    (why,) = detector.reasons(scores)
    path = pictures.path(number)
    width, height = pictures.sizes[number].tolist()
    box = seen_box(detector.preprocess, width, height, session.tile(number))
    cues = []
    for cue in detector.cues:
        value = float(scores.cues[cue.name][0])
        share, lower = detector.calibration.cues[cue.name].odd_tail(np.array([value]))
        cues.append(
            {"title": cue.name.replace("_", " "), "value": value, "share": 1 - float(share[0]),
             "lower": bool(lower[0]), "odd": bool(share[0] <= 0.05), "meaning": cue.meaning}
        )  # fmt: skip
    return {
        "name": printable(name),
        "path": printable(str(path if path is not None else name)),
        "why": [{"text": r.text, "meaning": r.meaning, "view": r.view} for r in why],
        "findings": [
            {"kind": kind, "text": text} for kind, text in ranking.kinds_of.get(number, {}).items()
        ],
        "score": float(session.score[number]),
        "shown": ranking.shown_score(float(session.score[number])),
        "size": [width, height],
        "seen": seen_text(detector.preprocess, width, height),
        "box": box,
        "tiled": detector.preprocess.tiles > 0,  # then the heat map covers all of the original
        "pages": pictures.pages(number),
        "page": pictures.page(number),
        "views": [
            {
                "name": view,
                "title": view,
                "score": float(values[0]),
                "shown": ranking.shown_score(float(values[0])),
            }
            for view, values in scores.views.items()
        ],
        "cues": cues,
        "duplicates": _duplicates(pictures, number),
        **_depth(pictures, number),
    }


def _depth(pictures: ReviewImages, number: int) -> dict[str, Any]:
    """Return the type of an original's pixels and, beyond 8 bits, the values to be shown."""
    dtype = pictures.dtypes[number]
    found: dict[str, Any] = {"depth": dtype, "window": None, "missing": None}
    path = pictures.path(number)
    if path is not None and not path.is_file():
        found["missing"] = f"{printable(str(path))} is not there any more; this is its thumbnail"
    elif dtype not in ("uint8", "bool"):
        try:
            pixels = pictures.original(number)
        except UserError as error:
            found["missing"] = printable(str(error))
        else:
            levels = window(pixels)
            if levels is not None:
                finite = pixels[np.isfinite(pixels)]
                found["window"] = {
                    "low": levels[0], "high": levels[1],
                    "min": float(finite.min()), "max": float(finite.max()),
                }  # fmt: skip
    return found


def _duplicates(pictures: ReviewImages, number: int) -> list[int]:
    """Return the images that equal an image, or nearly."""
    first = number
    for others in pictures.duplicates:
        first = int(others[first]) if others[first] >= 0 else first
    group = np.zeros(len(pictures), bool)
    group[first] = True
    for others in pictures.duplicates:
        group |= (others >= 0) & group[others]
    return [i for i in np.flatnonzero(group).tolist() if i != number][:MOST_DUPLICATES]


def original(
    pictures: ReviewImages, number: int, page: int | None, levels: tuple[float, float] | None
) -> tuple[bytes, str]:
    """Return an original at full size as a file, and its media type; see `Catalog`."""
    return encoded_picture(display(pictures.original(number, page), levels))


def explanation(ranking: Ranking, number: int) -> dict[str, Any]:
    """Return the pictures that the views make of an image: what they see, rebuild, and find odd."""
    session, detector = ranking.session, ranking.detector
    stored = session.deciding(np.array([number]))
    made = detector.explain(stored)
    (drawn,) = drawings.explanation_pictures(made, [printable(session.names[number])])
    heat = heat_of(ranking, number)
    return {
        "pictures": [
            {
                "title": picture.title,
                "url": picture.url,
                "meaning": drawings.MEANINGS[picture.title],
            }
            for picture in drawn
        ],
        "heat": None if heat is None else drawings.overlay_url(heat),
        "near": [drawings.image_url(near) for near in detector.neighbors(stored, NEIGHBORS)[0]],
    }


def heat_of(ranking: Ranking, number: int) -> Array | None:
    """Return a heat map of what the views see of an image, [h, w] from 0 to 1: of all tiles where there are any."""
    pictures = ranking.session.images
    width, height = pictures.sizes[number].tolist()
    return heat_map(ranking.detector, pictures.squares_of(number), width, height)


def heat_map(detector: Detector, squares: Array, width: int, height: int) -> Array | None:
    """Return a heat map of what the views see of one image, scaled for it alone.

    Args:
        squares: of the image, [n, C, R, R]: all of it, or all of its tiles.
        width: of the original, in pixels.
        height: of the original.

    Returns:
        [h, w] from 0 to 1: of the square that the views see, or of the whole original where it is seen in
        tiles; None: no view offers one.
    """
    heat = detector.explain(squares).heat_map()
    preprocess = detector.preprocess
    if heat is None or not preprocess.tiles:
        return None if heat is None else np.asarray(heat[0])
    scale = min(1.0, MAP_SIDE / max(width, height))
    whole = np.zeros((max(1, round(height * scale)), max(1, round(width * scale))), np.float32)
    for values, box in zip(heat, preprocess.boxes(height, width), strict=True):
        top, left, tall, wide = (round(length * scale) for length in box)
        area = whole[top : top + max(1, tall), left : left + max(1, wide)]
        np.maximum(area, resize(values, *area.shape), out=area)
    return whole


def seen_box(
    preprocess: Preprocess, width: int, height: int, tile: int | None = None
) -> list[float]:
    """Return the part of an original that the views see: left, top, width and height from 0 to 1.

    Where the square reaches beyond the original, as of ``letterbox``, they lie outside of 0 to 1.

    Args:
        tile: number of the tile that decides; the views have seen all of them.
    """
    if tile is not None:
        y, x, tall, wide = preprocess.boxes(height, width)[tile]
        return [x / width, y / height, wide / width, tall / height]
    if preprocess.fit == "stretch":
        return [0.0, 0.0, 1.0, 1.0]
    edge = min(width, height) if preprocess.fit == "crop" else max(width, height)
    if preprocess.fit == "pad":
        edge = max(edge, preprocess.resolution)
    return [(1 - edge / width) / 2, (1 - edge / height) / 2, edge / width, edge / height]


def seen_text(preprocess: Preprocess, width: int, height: int) -> str:
    """Say how the views see an original: ``the middle 200x200, scaled to 32x32``."""
    side = preprocess.resolution
    if preprocess.tiles:
        boxes = preprocess.boxes(height, width)
        return f"{len(boxes)} tiles of {boxes[0][3]}x{boxes[0][2]}, each seen as {side}x{side}"
    box = seen_box(preprocess, width, height)
    seen = round(box[2] * width), round(box[3] * height)
    whole = seen[0] >= width and seen[1] >= height
    part = "all of it" if whole else f"the middle {seen[0]}x{seen[1]}"
    same = (width, height) == (side, side) or seen == (side, side)
    return part if same else f"{part}, scaled to {side}x{side}"


def seen_in_all(preprocess: Preprocess, sizes: Array) -> str:
    """Say how the views see originals of some sizes, [N, 2], in one sentence."""
    side = preprocess.resolution
    if preprocess.tiles:
        different, times = np.unique(sizes, axis=0, return_counts=True)
        counts = [len(preprocess.boxes(height, width)) for width, height in different.tolist()]
        usual = np.median(np.repeat(counts, times))
        return (
            f"The views see each picture as tiles of {preprocess.tiles} pixels, usually {usual:.0f} "
            f"of them, at {side}x{side} pixels; the oddest tiles decide."
        )
    text = f"The views see {side}x{side} pixels"
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    if preprocess.fit == "crop":
        unseen = float(np.mean(1 - short / np.maximum(long, 1)))
        if unseen >= 0.01:
            text += f", the middle cut out: {100 * unseen:.0f} % of the pictures is not looked at (--set fit=letterbox looks at all of it)"
    elif preprocess.fit == "stretch":
        text += ", stretched to a square"
    else:
        text += ", the whole picture with a margin"
    usual = float(np.median(short))
    if usual >= 4 * side:
        tiles = 1 << max(3, round(np.log2(usual / 4)))
        text += (
            f"; the pictures are usually {usual:.0f} pixels wide or high, so that finer things are not seen "
            f"(--tiles {tiles} looks at each part of a picture, and may find them)"
        )
    return text + "."
