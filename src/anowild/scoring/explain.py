"""Why an image ranks where it does, in words that need no knowledge of the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anowild.arrays import Array

if TYPE_CHECKING:
    from anowild.scoring.calibration import Calibration
    from anowild.views import Cue, View

#: Reasons that are given for an image, at most; more only where as many views, or what anybody sees in the
#: image, would be left out.
MOST = 4

#: Between the reasons of an image in the column ``why`` of tables.
JOINT = "; "
#: Before the one reason of an image of which nothing is unusual.
NOTHING_STANDS_OUT = "nothing stands out by itself; most unusual: "

#: The words of pages and tables, for somebody who sees them for the first time; also in docs/glossary.md.
TERMS: Mapping[str, str] = {
    "odd image": "An image unlike the usual ones of its folder. Odd is not the same as bad: it may be dirt, a "
    "mistake, or the most interesting picture of all.",
    "training images": "The images that the model has learned from. All percentages compare with them.",
    "score": "How odd an image is: 1 is as odd as the oddest tenth of the training images, 2 as the oddest "
    "hundredth, 3 as the oddest thousandth.",
    "tile": "A part of a large image, where images are scored by their oddest parts. Percentages then compare with "
    "the tiles of all training images.",
    "limit": "The score from which images are flagged. You choose it: odd is a matter of degree.",
    "reason": "What is most unusual about an image, the strongest first: darker than 99 % means that 99 of 100 "
    "training images are less dark.",
    "finding": "What a simple check of the original says, without any learning: blurred, dark, a duplicate.",
    "mark": "Your decision on an image: keep, remove, interesting or unsure. The ranking can learn from marks. "
    "Marking changes no file.",
    "view": "One way of looking at images. There are up to four, and lookalikes beside "
    "them. The score adds up the two that find most.",
    "redrawn picture": "What a network makes of an image when it may only use what is usual in the training "
    "images; also called reconstruction. Whatever is odd is redrawn badly.",
    "heat map": "Colors over an image that show which places are odd. It shows little where an image is odd for "
    "what it lacks.",
    "pixels": "The view of plain measures that anybody could take: brightness, contrast, sharpness, edges, layout.",
    "transforms": "The view of a network that has learned, from your images, which way is up. It is unsure about "
    "images unlike the many.",
    "pretrained": "The view of a network trained on photographs: which images look unlike the rest to it. "
    "Its lookalikes say how odd all views together find the images that an image is most like.",
    "gan": "The view of networks that have learned to redraw your images: which ones they cannot redraw.",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing about an image that is unusual, or the most unusual."""

    text: str  # "much darker than 99.8 %"; the first of an image adds "of the training images"
    view: str  # name
    cue: str  # name
    meaning: str  # what was measured, with the terms of the method
    share: float  # of the training images that are less far out, from 0 to 1
    lower: bool  # whether the value is unusually low


def reasons(
    views: Sequence[View],
    calibration: Calibration,
    cues: Mapping[str, Array],
    training_images: int | None = None,
) -> list[list[Reason]]:
    """Say what is unusual about each image, the strongest first; if nothing is, what comes nearest.

    Reasons come from the cues that enter the score: of each view the strongest, one that anybody sees in
    the image, and others up to ``MOST``.

    Args:
        views: those that measured.
        cues: of the images, each [N] by name.
        training_images: their number, where it is known: no share is larger than it supports.

    Returns:
        For each image one reason or more.
    """
    from anowild.views.base import NEARLY_ALL  # with PyTorch, which the words above do without

    weighed = [(view, cue) for view in views for cue in view.cues if cue.name in cues]
    weights = _weights(calibration, [cue for _, cue in weighed])
    weighed = [(view, cue) for view, cue in weighed if cue.name in weights]
    if not weighed:
        raise ValueError("there is no cue that enters the score")
    largest = 1.0 if training_images is None else training_images / (training_images + 1)
    shares, lower, strengths = (
        np.stack(found)
        for found in zip(
            *(_far_out(calibration, cue, cues[cue.name], weights[cue.name]) for _, cue in weighed),
            strict=True,
        )
    )
    shares = np.minimum(shares, largest)
    # Shares beyond "nearly all" are written alike: there the contribution to the score decides.
    order = np.lexsort((strengths, np.minimum(shares, NEARLY_ALL)), axis=0)[::-1]
    ranked = zip(order.T.tolist(), shares.T.tolist(), lower.T.tolist(), strict=True)
    return [_of_image(weighed, *image) for image in ranked]


def one_line(reasons: Sequence[Reason]) -> str:
    """Join the reasons of an image, as in the column ``why`` of tables."""
    return JOINT.join(reason.text for reason in reasons)


def of_line(why: str) -> list[str]:
    """Split a column ``why`` into the texts of its reasons: the inverse of :func:`one_line`."""
    return [why] if NOTHING_STANDS_OUT in why else why.split(JOINT)


def _weights(calibration: Calibration, cues: Sequence[Cue]) -> dict[str, float]:
    """Return by name how much each cue that enters the score counts: its own weight times that of its view.

    Cues of weight 0 are left out, unless all have it.
    """
    known = [cue.name for cue in cues if cue.name in calibration.counted]
    weights = dict.fromkeys(known, 0.0)
    for view in calibration.views.values():
        for name in view.cues:
            if name in weights:
                weights[name] = view.weight * calibration.cues[name].weight
    return {name: weight for name, weight in weights.items() if weight} or weights


def _far_out(
    calibration: Calibration, cue: Cue, values: Array, weight: float
) -> tuple[Array, Array, Array]:
    """Return the share of training images less far out, whether on the lower side, and the contribution: [N].

    A value far out on the side that is not the odd one is not unusual: the surprise bounds the share.
    """
    fitted = calibration.cues[cue.name]
    surprise = fitted.surprise(values)
    tail, lower = fitted.odd_tail(values)
    share = 1 - np.clip(np.maximum(tail, np.exp(-surprise)), 0, 1)
    return share, lower, weight * fitted.evidence(values)


def _of_image(
    cues: Sequence[tuple[View, Cue]],
    order: Sequence[int],
    shares: Sequence[float],
    lower: Sequence[bool],
) -> list[Reason]:
    """Put the chosen cues of one image into words; ``order`` is by falling share."""
    from anowild.views.base import UNUSUAL

    unusual = [k for k in order if shares[k] >= UNUSUAL]
    chosen = _chosen(cues, unusual) if unusual else order[:1]
    before = "" if unusual else NOTHING_STANDS_OUT
    after, found = " of the training images", []
    for k in chosen:
        view, cue = cues[k]
        text = f"{before}{view.reason(cue, lower[k], shares[k])}{after}"
        found.append(Reason(text, view.name, cue.name, cue.meaning, shares[k], lower[k]))
        after = ""
    return found


def of_tile(reasons: Sequence[Reason]) -> list[Reason]:
    """Word the reasons of an image's oddest tile."""
    first, *others = reasons
    text = first.text.replace("training images", "training tiles")
    return [replace(first, text=f"its oddest tile: {text}"), *others]


def _chosen(cues: Sequence[tuple[View, Cue]], unusual: Sequence[int]) -> list[int]:
    """Choose the reasons that are given, in the same order."""
    if len(unusual) <= MOST:
        return list(unusual)
    strongest: dict[str, int] = {}
    for k in unusual:
        strongest.setdefault(cues[k][0].name, k)
    given = set(strongest.values())
    given.update([k for k in unusual if cues[k][1].visible][:1])
    given.update([k for k in unusual if k not in given][: max(0, MOST - len(given))])
    return [k for k in unusual if k in given]
