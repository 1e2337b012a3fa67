"""The report: one self-contained HTML file about scored images."""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment
from numpy.typing import ArrayLike

from anowild.arrays import Array
from anowild.data.seen import seen_in_all
from anowild.data.sources import Source
from anowild.errors import UserError
from anowild.evaluation.labels import Labels
from anowild.files import check_place, exclusive_lock, printable, write_text
from anowild.reporting import sections
from anowild.reporting.embedding import Embedded
from anowild.reporting.sections import Card, Results
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.scoring import Detector, Table, thresholds
from anowild.scoring.explain import TERMS
from anowild.scoring.scores import FLAGGED_SHARE
from anowild.scoring.stream import ThresholdRule, open_stream
from anowild.scoring.table import Scored
from anowild.scoring.thresholds import Threshold
from anowild.scoring.unlike_training import unlike_training
from anowild.signals import Interrupted
from anowild.version import VERSION

log = logging.getLogger("anowild")

#: Cards by default.
SHOWN = 24


def write_report(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    rule: ThresholdRule | None = None,
    labels: Labels | None = None,
    shown: int = SHOWN,
    notes: Sequence[str] = (),
    others: Mapping[str, Array] | None = None,
) -> None:
    """Read and score a source, and write a page about it; see `anowild.report`."""
    out = Path(out)
    check_page(out)
    others = _checked_others(others or {}, labels)
    detector = Detector.of(model)
    # What does not fit is told before the images are read.
    if labels is not None:
        labels.begin(open_stream(detector, sources).count())
    draw = None if rule is None else rule.fit(detector)
    with _working_folder(out) as working:
        session = ReviewSession.make(working, detector, sources)
        for name, values in others.items():
            if len(values) != len(session):
                raise UserError(
                    f"the scores '{name}' are of {len(values)} images, and {len(session)} are shown; "
                    "give one for each image that can be read"
                )
        for left in session.images.left_out[: sections.MOST_REASONS]:
            log.warning("not used: %d (%s), as %s", left.count, left.reason, left.first)
        _write(detector, session, out, draw, labels, shown, notes, others)


def _checked_others(others: Mapping[str, Array], labels: Labels | None) -> dict[str, Array]:
    """Return other scores as arrays.

    Raises:
        UserError: some are no finite numbers [N]; or there are no labels to hold them against.
    """
    if others and labels is None:
        raise UserError(
            "other scores are held against labels; give `labels`, or leave out `others`"
        )
    found = {}
    for name, values in others.items():
        try:
            found[name] = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            found[name] = np.array(np.nan)
        if found[name].ndim != 1 or not np.isfinite(found[name]).all():
            raise UserError(
                f"the scores '{name}' are no list of finite numbers, one for each image"
            )
    return found


def write_review_report(
    detector: Detector,
    session: ReviewSession,
    out: str | Path,
    rule: ThresholdRule | None = None,
) -> None:
    """Write a page about the images of a review.

    Args:
        detector: that scored them.
        session: the review.
        out: .html.
        rule: that chooses the limit; else it is the score that 5 % of the training images reach.

    Raises:
        UserError: the page cannot be written.
    """
    check_page(Path(out))
    draw = None if rule is None else rule.fit(detector)
    _write(detector, session, Path(out), draw)


def check_page(out: Path) -> None:
    """Check, before the work, that a page can be written to ``out``.

    Raises:
        UserError: it has another ending, or lies in no folder.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a report is written as .html; give it such an ending")
    check_place(out)


@contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside the report for the images as they are read; its name keeps readers away.

    It stays if the work is stopped, so that the same command goes on.

    Raises:
        UserError: another process is writing this report.
    """
    folder = out.with_name(f".{out.name}.images")
    with exclusive_lock(folder, f"another process is writing {out} now; wait for it"):
        try:
            yield folder
        except (Interrupted, KeyboardInterrupt):
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    detector: Detector,
    session: ReviewSession,
    out: Path,
    draw: Callable[[Scored], Threshold] | None,
    labels: Labels | None = None,
    shown: int = SHOWN,
    notes: Sequence[str] = (),
    others: Mapping[str, Array] | None = None,
) -> None:
    truth = None if labels is None else sections.labels_of(session.images, labels)
    results = Results(
        detector, Ranking(session, detector), _threshold(detector, session, draw), truth
    )
    embedded = Embedded(session, detector, results.threshold.score)
    cards = sections.cards(results, sections.chosen(results, shown, draw is not None), embedded)
    content = {
        **_summary(results, notes),
        **_images(results, cards, shown, embedded),
        **_details(results, others or {}),
        **_training(detector, embedded),
        "table": sections.table_beside(out, results),
    }
    content |= {
        "thumbnails": list(embedded.thumbnails.values()),
        "not_embedded": _not_embedded(results, embedded),
        "footer": footer(f"torch {torch.__version__}"),
    }
    write_page(out, content)


def write_page(out: Path, content: Mapping[str, Any]) -> None:
    """Write the page of some content, by the names that the template has for it.

    Raises:
        UserError: it cannot be written.
    """
    template = files("anowild.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(content)
    # File names may hold lone surrogates, which UTF-8 cannot encode.
    write_text(out, page.encode("utf-8", "backslashreplace").decode())


def footer(*libraries: str) -> str:
    """Say what a page was made with, and when."""
    made_with = [f"AnoWild {VERSION}", *libraries, f"Python {platform.python_version()}"]
    return f"{', '.join(made_with)}, {datetime.now(UTC).date().isoformat()}"


def usual_ratio(sizes: ArrayLike) -> float:
    """Return the width of a tile by its height, so that most pictures of widths and heights [N, 2] fill it."""
    width, height = np.asarray(sizes, np.float64).T
    return float(np.clip(np.median(width / np.maximum(height, 1)), 0.75, 1.5))


def _threshold(
    detector: Detector, session: ReviewSession, draw: Callable[[Scored], Threshold] | None
) -> Threshold:
    if draw is None:
        return thresholds.training_share(session.score, FLAGGED_SHARE)
    table = Table(detector.cue_names, views=detector.view_names)
    table.append(session.names, session.scores)
    return draw(table)


def _summary(results: Results, notes: Sequence[str]) -> dict[str, Any]:
    session, images = results.session, results.session.images
    left_out = images.packed.description["left_out"]
    return {
        "title": f"Odd images in {images.title}",
        "summary": (
            f"{len(session):,} images, {left_out:,} left out; {results.threshold.flagged:,} flagged. "
            f"{seen_in_all(results.detector.preprocess, images.sizes)}"
        ),
        "notes": [
            *notes,
            *(f"{text[0].upper()}{text[1:]}." for text in images.warnings),
            *filter(None, [unlike_training(session.score, results.detector.training_images)]),
        ],
        "left_out": images.left_out[: sections.MOST_REASONS],
        "more_left_out": sum(left.count for left in images.left_out[sections.MOST_REASONS :]),
        "ratio": usual_ratio(images.sizes),
    }


def _images(
    results: Results, cards: Sequence[Card], shown: int, embedded: Embedded
) -> dict[str, Any]:
    return {
        "strip": cards[: sections.IN_STRIP],
        "histogram": sections.score_histogram(results),
        "beyond": sections.beyond_note(
            results.detector.training_images, float(results.session.score.max())
        ),
        "limit": results.threshold,
        "cards": cards,
        "flagged_shown": sum(
            results.threshold.flags(
                results.session.score[results.ranking.members([card.image.number])]
            ).sum()
            for card in cards
        ),
        "boxed": any(card.image.box for card in cards),
        "legend": sections.picture_legend(cards),
        "findings": sections.findings(results, embedded),
        "ordinary": sections.ordinary(results, shown, embedded),
    }


def _details(results: Results, others: Mapping[str, Array]) -> dict[str, Any]:
    labeled = results.truth is not None
    return {
        "labeled": labeled,
        "quality": sections.quality_rows(results, others) if labeled else None,
        "quality_notes": sections.quality_notes(results) if labeled else [],
        "cues": sections.cue_rows(results),
        "odd_sides": sections.odd_side_note(results.detector),
        "terms": TERMS,
    }


def _training(detector: Detector, embedded: Embedded) -> dict[str, Any]:
    folder = detector.folder
    training = None if folder is None else folder / "training"
    settings = detector.training_info.get("settings", {})
    return {
        "model": None if folder is None else printable(str(folder)),
        "trained": sections.training_notes(detector),
        "curves": [] if training is None else sections.loss_curves(training / "log.jsonl"),
        "grids": [] if training is None else sections.training_grids(training / "grids", embedded),
        "settings": [
            ("setting", "value"),
            *sorted((name, str(value)) for name, value in settings.items()),
        ],
    }


def _not_embedded(results: Results, embedded: Embedded) -> str:
    count, shown = len(results.session), len(embedded.thumbnails)
    text = f"This page has thumbnails of {shown:,} of the {count:,} images, and no originals"
    if embedded.absent:
        text += f"; {embedded.absent:,} pictures had no room in it"
    return f"{text}. The links to files work on the machine that wrote it."
