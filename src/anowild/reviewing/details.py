"""Everything about one image of a review: why it ranks where it does, its original, its explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anowild.arrays import Array
from anowild.data.display import display, encoded_picture, window_facts
from anowild.data.seen import seen_box, seen_text
from anowild.errors import UserError
from anowild.files import printable
from anowild.reviewing import pictures as drawings
from anowild.reviewing.images import ReviewImages
from anowild.scoring.heat_map import heat_map

if TYPE_CHECKING:
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
            found["window"] = window_facts(pixels)
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
