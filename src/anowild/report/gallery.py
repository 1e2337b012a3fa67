"""Pictures of the oddest and the most ordinary images, with what the networks made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anowild.scoring import Detector
from anowild.training.pictures import grid

Array = np.ndarray[Any, Any]

_CAPTION = 18  # pixels


def odd_and_ordinary(
    detector: Detector, images: Array, scores: Array, count: int = 14, scale: int = 3
) -> Image.Image:
    """The ``count`` oddest images and the ``count`` least odd ones, side by side with G(E(x)).

    Each band has three rows: the image as the networks see it, its reconstruction, and the
    absolute difference. The oddest is on the left.

    Args:
        images: preprocessed, uint8 [N, C, R, R].
        scores: [N].
    """
    order = np.argsort(-scores, kind="stable")
    bands = [
        _band(f"oddest: {_range(scores[order[:count]])}", detector, images[order[:count]], scale),
        _band(
            f"most ordinary: {_range(scores[order[-count:]])}",
            detector, images[order[-count:]], scale,
        ),
    ]  # fmt: skip
    sheet = Image.new(
        "RGB", (max(b.width for b in bands), sum(b.height for b in bands)), (255, 255, 255)
    )
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet


def _range(scores: Array) -> str:
    return f"scores {scores.max():.2f} to {scores.min():.2f}"


def _band(title: str, detector: Detector, images: Array, scale: int) -> Image.Image:
    seen, rebuilt = detector.rebuild(images)
    difference = np.abs(seen - rebuilt) - 1.0  # 0..2 shown on the same scale as the images
    rows = np.concatenate([seen, rebuilt, difference])
    pixels = ((rows + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    picture = grid(pixels, columns=len(images), gap=1).convert("RGB")
    size = (picture.width * scale, picture.height * scale)
    picture = picture.resize(size, Image.Resampling.NEAREST)
    band = Image.new("RGB", (picture.width, picture.height + _CAPTION), (255, 255, 255))
    ImageDraw.Draw(band).text(
        (4, 2),
        f"{title} (rows: image, reconstruction, difference)",
        fill=(0, 0, 0),
        font=ImageFont.load_default(size=12),
    )
    band.paste(picture, (0, _CAPTION))
    return band
