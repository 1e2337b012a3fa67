"""How scores and limits are shown to people: rounded down, and no further than the training images tell."""

from __future__ import annotations

import math


def shown_score(score: float, training_images: int | None) -> str:
    """Return a score as people are shown it: "2.31", or "> 3.39" where the training images say no more.

    Of 2,500 training images the oddest is one in 2,500, a score of 3.4. Scores beyond continue the
    trend, so that they rank images, but no image has shown that they are right. Scores are rounded down, so
    that what is shown never reaches a limit that the score does not.

    Args:
        score: as it was computed.
        training_images: how many images the model was trained on; None: not known.
    """
    if training_images:
        most = math.log10(training_images)
        if score > most:
            return f"> {_rounded_down(most)}"
    return _rounded_down(score)


def shown_limit(limit: float) -> str:
    """Return a limit as people are shown it and may give it again: rounded down, so that no flagged image is lost."""
    text = f"{math.floor(1e4 * limit + 1e-7) / 1e4:.4f}"
    return text[:-2] if text.endswith("00") else text.removesuffix("0")


def _rounded_down(score: float) -> str:
    return f"{floor_hundredths(score):.2f}"


def floor_hundredths(score: float) -> float:
    """Return a score rounded down to hundredths, as it is shown."""
    return math.floor(100 * score + 1e-9) / 100  # 2.01 * 100 is a little less than 201
