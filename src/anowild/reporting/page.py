"""The report: one self-contained HTML file about a scored source."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment

from anowild.arrays import Array
from anowild.data.image_set import Source
from anowild.errors import UserError
from anowild.evaluation.labels import LabelCollector, Labels
from anowild.files import check_place, printable, write_text
from anowild.reporting import sections
from anowild.reporting.samples import TopKCollector
from anowild.reporting.sections import Results
from anowild.scoring import Detector, Table, thresholds
from anowild.scoring.detector import FLAGGED_SHARE
from anowild.scoring.stream import ThresholdRule, open_stream, score_pass
from anowild.version import VERSION

#: Images in each gallery by default.
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
    folder: str | Path | None = None,
) -> None:
    """Score a source and write a page about it; see `anowild.report`."""
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{out}: a report is written as .html; give it such an ending")
    check_place(out)
    if isinstance(model, Detector):
        detector = model
    else:
        detector, folder = Detector.load(model), model
    samples = TopKCollector(detector, shown)
    results = _collect(detector, sources, rule, labels, samples)
    content = {
        "title": f"Odd images in {_source_names(sources)}",
        "summary": [
            f"{len(results.table)} images, {results.table.left_out} left out; "
            f"{results.threshold.flagged} flagged.",
            _model_sentence(detector, folder),
            *notes,
        ],
        **_results_content(results, samples, others or {}),
        **_training_content(detector, folder),
        "footer": (
            f"AnoWild {VERSION}, torch {torch.__version__}, Python {platform.python_version()}, "
            f"{datetime.now(UTC).date().isoformat()}"
        ),
    }
    template = files("anowild.reporting").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template).render(content)
    # File names may hold lone surrogates, which UTF-8 cannot encode.
    write_text(out, page.encode("utf-8", "backslashreplace").decode())


def _collect(
    detector: Detector,
    sources: Source | Sequence[Source],
    rule: ThresholdRule | None,
    labels: Labels | None,
    samples: TopKCollector,
) -> Results:
    """Score a source in one pass that also fills ``samples``."""
    stream = open_stream(detector, sources)
    draw = None if rule is None else rule.fit(detector)
    table = Table(detector.cue_names, views=detector.view_names)
    collector = None if labels is None else LabelCollector(labels)
    score_pass(detector, stream, table, samples, *([] if collector is None else [collector]))
    threshold = (
        thresholds.training_share(table.score, FLAGGED_SHARE) if draw is None else draw(table)
    )
    truth = None if collector is None else collector.truth
    return Results(detector, stream, table, table.scores, threshold, truth)


def _results_content(
    results: Results, samples: TopKCollector, others: Mapping[str, Array]
) -> dict[str, Any]:
    oddest = sections.gallery(results, samples.oddest)
    labeled = results.truth is not None
    return {
        "histogram": sections.score_histogram(results),
        "threshold": [
            results.threshold.promise,
            f"Assumption: {results.threshold.assumption}",
        ],
        "oddest": oddest,
        "legend": sections.picture_legend(oddest),
        "ordinary": sections.gallery(results, samples.ordinary),
        "labeled": labeled,
        "quality": sections.quality_rows(results, others) if labeled else None,
        "cues": sections.cue_rows(results),
        "odd_sides": sections.odd_side_note(results.detector),
        "data": sections.data_notes(results.stream),
    }


def _training_content(detector: Detector, folder: str | Path | None) -> dict[str, Any]:
    training = None if folder is None else Path(folder) / "training"
    settings = detector.training_info["settings"]
    return {
        "curves": [] if training is None else sections.loss_curves(training / "log.jsonl"),
        "grids": [] if training is None else sections.training_grids(training / "grids"),
        "settings": sorted((name, str(value)) for name, value in settings.items()),
    }


def _source_names(sources: Source | Sequence[Source]) -> str:
    given = [sources] if isinstance(sources, str | Path | np.ndarray) else list(sources)
    return ", ".join(
        "an array" if isinstance(source, np.ndarray) else printable(str(source)) for source in given
    )


def _model_sentence(detector: Detector, folder: str | Path | None) -> str:
    info = detector.training_info
    trained = []
    for name, view in info["views"].items():
        length = f" for {view['kimg']:g} kimg" if "kimg" in view else ""
        minutes = f" ({view['seconds'] / 60:.1f} minutes)" if "seconds" in view else ""
        trained.append(f"{name}{length}{minutes}")
    by = "a model" if folder is None else printable(str(folder))
    side = detector.preprocess.resolution
    return (
        f"Scored by {by}: trained on {info['images']} unlabeled images ({', '.join(trained)}); its views "
        f"see {side}x{side} pixels."
    )
