"""Everything about one image of a review: why it ranks where it does, its original, its explanation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anowild.arrays import Array
from anowild.data import Preprocess
from anowild.data.display import display, encoded_picture, window
from anowild.errors import UserError
from anowild.files import printable
from anowild.reviewing import pictures as drawings
from anowild.reviewing.images import ReviewImages
from anowild.reviewing.ranking import Ranking

#: Reference images beside an image, and duplicates that are listed.
NEIGHBORS, MOST_DUPLICATES = 5, 24


def facts(ranking: Ranking, number: int) -> dict[str, Any]:
    """Return what is known about an image, as JSON values, within milliseconds."""
    session, detector = ranking.session, ranking.detector
    pictures, name = session.images, session.names[number]
    scores = session.scores.select(np.array([number]))
    (why,) = detector.reasons(scores)
    path = pictures.path(number)
    width, height = pictures.sizes[number].tolist()
    side = detector.preprocess.resolution
    box = seen_box(detector.preprocess, width, height)
    cues = []
    for cue in detector.cues:
        value = float(scores.cues[cue.name][0])
        share, _ = detector.calibration.cues[cue.name].odd_tail(np.array([value]))
        cues.append(
            {"title": cue.name.replace("_", " "), "value": value, "share": 1 - float(share[0]),
             "odd": bool(share[0] <= 0.05), "meaning": cue.meaning}
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
        "seen": f"{side}x{side} of {width}x{height}" + _middle(box, width, height),
        "box": box,
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
    """Return an original at full size as a file, and its media type.

    Args:
        page: another page of its file, from 0.
        levels: values that are shown as black and white; None: chosen by the image.

    Raises:
        UserError: it is not there any more, or cannot be read.
    """
    return encoded_picture(display(pictures.original(number, page), levels))


def explanation(ranking: Ranking, number: int) -> dict[str, Any]:
    """Return the pictures that the views make of an image: what they see, rebuild, and find odd."""
    session, detector = ranking.session, ranking.detector
    stored = np.ascontiguousarray(session.images.pictures[[number]])
    made = detector.explain(stored)
    (drawn,) = drawings.explanation_pictures(made, [printable(session.names[number])])
    heat = made.heat_map()
    return {
        "pictures": [
            {
                "title": picture.title,
                "url": picture.url,
                "meaning": drawings.MEANINGS[picture.title],
            }
            for picture in drawn
        ],
        "heat": None if heat is None else drawings.overlay_url(heat[0]),
        "near": [drawings.image_url(near) for near in detector.neighbors(stored, NEIGHBORS)[0]],
    }


def seen_box(preprocess: Preprocess, width: int, height: int) -> list[float]:
    """Return the part of an original that the views see: left, top, width and height from 0 to 1.

    Where the square reaches beyond the original, as of ``letterbox``, they lie outside of 0 to 1.
    """
    if preprocess.fit == "stretch":
        return [0.0, 0.0, 1.0, 1.0]
    edge = min(width, height) if preprocess.fit == "crop" else max(width, height)
    if preprocess.fit == "pad":
        edge = max(edge, preprocess.resolution)
    return [(1 - edge / width) / 2, (1 - edge / height) / 2, edge / width, edge / height]


def _middle(box: Sequence[float], width: int, height: int) -> str:
    """Say which part of an original the views see; nothing where they see all of it."""
    seen = [round(box[2] * width), round(box[3] * height)]
    if seen[0] >= width and seen[1] >= height:
        return ""
    return f", the middle {seen[0]}x{seen[1]}"


def seen_in_all(preprocess: Preprocess, sizes: Array) -> str:
    """Say how the views see originals of some sizes, [N, 2], in one sentence."""
    side = preprocess.resolution
    text = f"The views see {side}x{side} pixels"
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    if preprocess.fit == "crop":
        unseen = float(np.mean(1 - short / np.maximum(long, 1)))
        if unseen >= 0.01:
            text += f", the middle cut out: {100 * unseen:.0f} % of the pictures is not looked at"
    elif preprocess.fit == "stretch":
        text += ", stretched to a square"
    else:
        text += ", the whole picture with a margin"
    usual = float(np.median(short))
    if usual >= 4 * side:
        text += f"; the pictures are usually {usual:.0f} pixels wide or high, so that finer things are not seen"
    return text + "."
