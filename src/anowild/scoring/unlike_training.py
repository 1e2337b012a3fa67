"""A warning where images are not like those that a model was trained on."""

from __future__ import annotations

from anowild.arrays import Array
from anowild.scoring.scores import FLAGGED_SHARE, USUAL_LIMIT

#: Fewest images of which anything is said.
FEWEST = 20
#: Warned is where the share is at least this many times that of the training images, and chance gives
#: so many images at most this often. A few times as many are usual: folders are spoilt in different degrees.
TIMES, CHANCE = 3, 1e-3


def unlike_training(scores: Array, training_images: int | None = None) -> str | None:
    """Return a warning if far more images are odd than among the training images; None if not.

    Of images like the training images, 5 % score as the oddest 5 % of those. Another camera, light or
    subject makes nearly all odd, and their ranking says little.

    Args:
        scores: of the images, [N].
        training_images: how many the 5 % were told from; None: not known.
    """
    odd = int((scores >= USUAL_LIMIT).sum())
    share = odd / max(1, len(scores))
    if len(scores) < FEWEST or share < TIMES * FLAGGED_SHARE:
        return None
    from scipy.stats import betabinom, binom  # a second

    # The share above the limit is not exactly 5 %: it was told from the training images, which are a sample.
    known = (training_images + 1) if training_images else None
    chance = (
        binom.sf(odd - 1, len(scores), FLAGGED_SHARE)
        if known is None
        else betabinom.sf(odd - 1, len(scores), FLAGGED_SHARE * known, (1 - FLAGGED_SHARE) * known)
    )
    if chance > CHANCE:
        return None
    return (
        f"{100 * share:.0f} % of these images are as odd as the oddest {100 * FLAGGED_SHARE:g} % of the "
        "training images: another camera, light, color or subject? The model may not fit them; train on "
        "these images as well."
    )
