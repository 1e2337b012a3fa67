"""The report of a table of scores in parts: the same page, without what needs the pixels of all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.data.display import display
from anowild.errors import UserError
from anowild.files import printable
from anowild.progress import bar
from anowild.reporting import charts, sections
from anowild.reporting.embedding import (
    PIXELATED,
    ROOM,
    Thumbnail,
    address_of,
    common_root,
    data_url,
    how_seen,
    shrunk,
)
from anowild.reporting.page import SHOWN, check_page, footer, usual_ratio, write_page
from anowild.reporting.sections import Card
from anowild.reviewing.on_demand import OnDemand
from anowild.scoring import Row, thresholds
from anowild.scoring.explain import TERMS, Reason, of_line
from anowild.scoring.partitions import LEFT_OUT, PartitionedTable
from anowild.scoring.scores import FLAGGED_SHARE, USUAL_LIMIT
from anowild.scoring.stream import ThresholdRule
from anowild.scoring.thresholds import Threshold
from anowild.scoring.unlike_training import unlike_training
from anowild.shown import shown_score

if TYPE_CHECKING:
    from anowild.scoring.calibration import Calibration

#: Sides in pixels and quality of the pictures of odd images, and of ordinary ones: the first that leaves room for the
#: others.
ODD, ORDINARY = ((960, 85), (640, 85), (480, 80), (320, 80), (240, 60)), ((240, 80), (160, 60))
#: Share of the room for pictures that the odd ones have.
_ODD_SHARE = 0.9
_NOT_HERE = (
    "This page is made of a table of scores. Groups of alike images, findings of the checks, pictures of what the views "
    "see and ordinary images like each odd one need the pixels of all images, and the curves of the training need the "
    "model's folder: they are in the report of a model and images."
)


def write_table_report(
    table: str | Path, out: str | Path, rule: ThresholdRule | None = None, shown: int = SHOWN
) -> None:
    """Write a page about a table in parts; see `anowild.report_table`."""
    out = Path(out)
    check_page(out)
    opened = PartitionedTable(table)
    limit = _threshold(opened, rule)
    pictures = _Pictures(opened, limit)
    odd = opened.rows(range(1, min(shown, len(opened)) + 1))
    most = min(len(opened), len(odd), sections.ORDINARY)
    usual = opened.rows(range(len(opened), len(opened) - most, -1))
    pictures.name_root([*odd, *usual])
    with bar("pictures", len(odd) + len(usual)) as working:
        cards = []
        for row in odd:
            image = pictures.of(row, ODD, _ODD_SHARE * ROOM / len(odd))
            cards.append(_card(row, image, opened.facts.training_images))
            working.update(len(cards))
        ordinary = []
        for row in usual:
            room = (1 - _ODD_SHARE) * ROOM / len(usual)
            ordinary.append(pictures.of(row, ORDINARY, room))
            working.update(len(cards) + len(ordinary))
    # An image may be among the oddest and the most ordinary ones, where there are few.
    thumbnails = {image.number: image for image in [*ordinary, *(card.image for card in cards)]}
    shapes = [image for image in thumbnails.values() if image.url] or list(thumbnails.values())
    write_page(
        out,
        {
            **_summary(opened, limit),
            **_figures(opened, limit),
            "ratio": usual_ratio([(image.width, image.height) for image in shapes]),
            "strip": cards[: sections.IN_STRIP],
            "cards": cards,
            "flagged_shown": min(limit.flagged, len(cards)),
            "boxed": any(card.image.box for card in cards),
            "ordinary": ordinary,
            "thumbnails": list(thumbnails.values()),
            "not_embedded": (
                f"This page has pictures of {len(thumbnails) - pictures.missing:,} of the {len(opened):,} images, made "
                "of the originals as it was written. The links to files work on the machine that wrote it."
            ),
            "footer": footer(),
        },
    )


def _threshold(table: PartitionedTable, rule: ThresholdRule | None) -> Threshold:
    """Return the limit of a rule; without one, the table's or that of the training images.

    Raises:
        UserError: the rule needs the model.
    """
    if rule is None:
        return table.threshold or thresholds.training_share(table.scores, FLAGGED_SHARE)
    return rule.fit(table.facts)(_Ranked(table.scores))


@dataclass(frozen=True)
class _Ranked:
    """The scores of a table in parts; see `Scored`."""

    score: Array

    def raw_score(self, calibration: Calibration) -> Array:
        """Raise UserError: raw scores belong to rules that need the model."""
        raise UserError(
            "a table in parts has no raw scores; take a rule that asks for scores alone"
        )


class _Pictures:
    """Makes the pictures of a page from the originals.

    Args:
        table: that the images are of.
        limit: from which they are flagged.
    """

    def __init__(self, table: PartitionedTable, limit: Threshold) -> None:
        self.missing = 0  # originals that could not be read
        self._table, self._limit = table, limit
        self._originals = OnDemand(Path(table.facts.base), table.facts.preprocess)
        self._root = ""

    def name_root(self, rows: Sequence[Row]) -> None:
        """Leave out the folder that all images shown have in common where paths are written."""
        self._root = common_root([row.path for row in rows])

    def of(self, row: Row, sizes: Sequence[tuple[int, int]], room: float) -> Thumbnail:
        """Return an image for the page, with a picture of at most ``room`` characters or why there is none."""
        facts = self._table.facts
        shown: dict[str, Any] = {
            "size": "its size is not known", "url": None, "width": 4, "height": 3, "box": None,
        }  # fmt: skip
        missing = ""
        try:
            pixels = self._originals.pixels(row.path)
        except UserError as error:
            missing = printable(str(error))
            self.missing += 1
        else:
            url, width, height = _url(pixels, self._originals.levels, sizes, room)
            tall, wide = pixels.shape[:2]
            size, box = how_seen(facts.preprocess, (wide, tall), (width, height))
            shown = {"size": size, "url": url, "width": width, "height": height, "box": box}
        return Thumbnail(
            number=row.rank - 1,
            name=row.path,
            path=row.path.removeprefix(self._root),
            rank=row.rank,
            score=shown_score(row.score, facts.training_images),
            flagged=self._limit.is_reached(row.score),
            link=address_of(self._originals.path(row.path)),
            pixelated=max(shown["width"], shown["height"]) < PIXELATED,
            missing=missing,
            **shown,
        )


def _url(
    pixels: Array,
    levels: tuple[float, float] | None,
    sizes: Sequence[tuple[int, int]],
    room: float,
) -> tuple[str, int, int]:
    """Return the data URL of an original, scaled down as far as the room asks for, and width and height."""
    picture = Image.fromarray(np.ascontiguousarray(display(pixels, levels))).convert("RGB")
    small = max(pixels.shape[:2]) <= PIXELATED  # kept as it is
    data = shrunk(picture, sizes, lambda file: len(data_url(file)) <= room, lossless=small)
    return data_url(data), *picture.size


def _card(row: Row, image: Thumbnail, training_images: int | None) -> Card:
    return Card(
        image=image,
        label="",
        reasons=[Reason(text, "", "", "", 0.0, False) for text in of_line(row.why)],
        findings=[],
        views=[(name, shown_score(score, training_images)) for name, score in row.views.items()],
        pictures=[],
        neighbors=[],
        alike=[],
        more=0,
    )


def _summary(table: PartitionedTable, limit: Threshold) -> dict[str, Any]:
    facts = table.facts
    left_out = sum(one.count for one in table.left_out)
    side = facts.preprocess.resolution
    return {
        "title": f"Odd images in {', '.join(facts.sources)}",
        "summary": (
            f"{len(table):,} images, {left_out:,} left out; {limit.flagged:,} flagged. "
            f"The views see {side}x{side} pixels of each image."
        ),
        "notes": [
            *filter(None, [unlike_training(table.scores, table.facts.training_images)]),
            _NOT_HERE,
        ],
        "left_out": table.left_out[: sections.MOST_REASONS],
        "more_left_out": sum(one.count for one in table.left_out[sections.MOST_REASONS :]),
        "all_left_out": str(table.folder / LEFT_OUT) if left_out else "",
    }


def _figures(table: PartitionedTable, limit: Threshold) -> dict[str, Any]:
    """Return charts and tables over all images."""
    facts = table.facts
    usual = USUAL_LIMIT
    views = [["view", "median", "99th percentile", "highest", f"images of {usual:.2f} or more"]]
    cues = [["cue", "odd side", "median here", "99th percentile here", "what it is"]]
    with bar("figures, columns", len(facts.views) + len(facts.cues)) as working:
        for view in facts.views:
            values = table.column(f"view_{view}")
            median, high = np.quantile(values, [0.5, 0.99])
            odd = int((values >= usual).sum())
            views.append([view, f"{median:.2f}", f"{high:.2f}", f"{values.max():.2f}", f"{odd:,}"])
            working.update(len(views) - 1)
        for cue in facts.cues:
            median, high = np.quantile(table.column(cue.name), [0.5, 0.99])
            name = cue.name.replace("_", " ")
            cues.append([name, cue.odd_side, f"{median:.4g}", f"{high:.4g}", cue.meaning])
            working.update(len(views) + len(cues) - 2)
    images = facts.training_images
    return {
        "histogram": charts.histogram({"images": table.scores}, limit.score, "score"),
        "beyond": sections.beyond_note(images, float(table.scores[0])),
        "limit": limit,
        "views": views if facts.views else None,
        "cues": cues,
        "odd_sides": "",
        "terms": TERMS,
        "model": facts.model_folder,
        "trained": [f"{images:,} unlabeled images"]
        if images
        else ["images whose number is not known"],
        "of_table": True,
    }
