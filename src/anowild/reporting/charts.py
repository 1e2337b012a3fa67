"""Charts as inline SVG without scripts or fonts; their colors follow the light or dark mode of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from anowild.arrays import Array
from anowild.shown import shown_limit

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 200, 68, 34
#: Bins of a histogram.
_BINS = 48
#: Width of a curve; several are shown side by side.
_CURVE_WIDTH = 360
#: Points up to which each is drawn, not only the line between them.
_FEW_POINTS = 12


def histogram(groups: dict[str, Array], limit: float | None, label: str) -> Markup:
    """Draw a histogram of one or more groups, with counts on a logarithmic scale.

    Args:
        groups: values by title; they share the bins, and are drawn on top of each other.
        limit: where to draw a vertical line; None: no line.
        label: name of the values, for the axis and the description.
    """
    values = np.concatenate(list(groups.values()))
    low, high = float(values.min()), float(values.max())
    if limit is not None:
        low, high = min(low, limit), max(high, limit)
    high = high if high > low else low + 1
    edges = np.linspace(low, high, _BINS + 1)
    counts = {title: np.histogram(group, edges)[0] for title, group in groups.items()}
    top = np.log1p(max(int(c.max()) for c in counts.values()))

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - 10)

    def y(height: float) -> float:
        return (_HEIGHT - _BOTTOM) * (1 - height / top) + 4 if top else _HEIGHT - _BOTTOM

    parts = []
    width = x(edges[1]) - x(edges[0])
    for number, found in enumerate(counts.values()):
        for left, count in zip(edges[:-1], found, strict=True):
            if count:
                height = y(np.log1p(count))
                parts.append(
                    f'<rect class="bar{number}" x="{x(left) + 0.5:.1f}" y="{height:.1f}" '
                    f'width="{max(width - 1, 0.5):.1f}" height="{_HEIGHT - _BOTTOM + 4 - height:.1f}"/>'
                )
    for tick in _ticks(low, high):
        parts.append(_text(x(tick), _HEIGHT - _BOTTOM + 18, f"{tick:g}", "middle"))
    for count in (10**k for k in range(10)):
        if np.log1p(count) <= top:
            parts.append(_text(_LEFT - 6, y(np.log1p(count)) + 4, str(count), "end"))
    if limit is not None:
        place = x(limit)
        side, shift = ("end", -6) if place > _WIDTH / 2 else ("start", 6)
        parts.append(
            f'<line class="limit" x1="{place:.1f}" x2="{place:.1f}" y1="0" y2="{_HEIGHT - _BOTTOM + 4}"/>'
        )
        parts.append(_text(place + shift, 14, f"limit {shown_limit(limit)}", side))
    parts.append(_text(_WIDTH / 2, _HEIGHT - 2, label, "middle"))
    # The legend: the upper right corner is nearly empty, since few images have such high scores.
    for number, title in enumerate(groups) if len(groups) > 1 else ():
        row = 6 + 16 * number
        parts.append(
            f'<rect class="bar{number}" x="{_WIDTH - 22}" y="{row}" width="12" height="12"/>'
        )
        parts.append(_text(_WIDTH - 28, row + 10, title, "end"))
    titles = ", ".join(f"{title}: {len(group)}" for title, group in groups.items())
    return _svg(parts, f"Histogram of {label}. Images, {titles}.")


def curve(minutes: Sequence[float], y: Sequence[float], title: str) -> Markup:
    """Draw one line over the time of the training; of few values, also the points.

    Args:
        minutes: when each value was measured, [N].
        y: [N]; values that are not finite are skipped.
        title: name of the values.
    """
    xs, ys = np.asarray(minutes, float), np.asarray(y, float)
    good = np.isfinite(xs) & np.isfinite(ys)
    if not good.any():
        return _svg(
            [_text(_CURVE_WIDTH / 2, _HEIGHT / 2, f"{title}: no values", "middle")],
            f"{title}: no values",
            _CURVE_WIDTH,
        )
    xs, ys = xs[good], ys[good]
    low, high, end = float(ys.min()), float(ys.max()), float(xs.max())
    if len(ys) == 1:
        said = f"{low:.3g} after {end:.2g} minutes, the only value"
    else:
        said = f"from {low:.3g} to {high:.3g} over {end:.2g} minutes, {ys[-1]:.3g} at the end"
    # A constant is drawn in the middle.
    scale = 1 / (high - low) if high > low else 0.0
    places = [
        (
            _LEFT + a / (end or 1.0) * (_CURVE_WIDTH - _LEFT - 10),
            (_HEIGHT - _BOTTOM) * (1 - (b - low) * scale if scale else 0.5) + 4,
        )
        for a, b in zip(xs, ys, strict=True)
    ]
    parts = [
        f'<path class="axis" d="M{_LEFT} 4V{_HEIGHT - _BOTTOM + 4}H{_CURVE_WIDTH - 10}"/>',
        '<polyline class="curve" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        + '"/>',
    ]
    if len(places) <= _FEW_POINTS:
        parts += [f'<circle class="point" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>' for a, b in places]
    ends = [(12.0, high), (_HEIGHT - _BOTTOM + 4.0, low)] if scale else [(places[0][1] + 4, low)]
    parts += [_text(_LEFT - 6, place, f"{value:.3g}", "end") for place, value in ends]
    parts += [
        _text(_CURVE_WIDTH - 10, _HEIGHT - _BOTTOM + 18, f"{end:.2g} minutes", "end"),
        _text(_CURVE_WIDTH / 2, _HEIGHT - 2, title, "middle"),
    ]
    return _svg(parts, f"{title} {said}", _CURVE_WIDTH)


def _ticks(low: float, high: float) -> list[float]:
    """Return four to ten round numbers between ``low`` and ``high``."""
    step = 10 ** np.floor(np.log10((high - low) / 4))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 10)
    return [float(round(t, 10)) for t in np.arange(np.ceil(low / step), high / step + 1e-9) * step]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], label: str, width: int = _WIDTH) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )
