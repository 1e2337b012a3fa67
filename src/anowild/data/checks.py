"""Cheap checks of originals: what is blurred, dark, overexposed, constant, of an odd size, or there twice.

Each original is measured once, while it is decoded. What is odd is found from these measures alone,
without labels. An image has to look bad by itself and also to differ from nearly all others; so cells
on black are not all called dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from anowild.arrays import Array
from anowild.data.preprocessing import LUMA

#: Measures of an original, and their meanings; 0 is black and 1 is white.
MEASURES: Mapping[str, str] = {
    "sharpness": "steepness of its sharpest edges, whatever its light and content: 100 is a step from its "
    "darkest to its brightest parts within one pixel, at 384 pixels",
    "detail": "variance of the Laplacian, in squared levels of 255, at 384 pixels",
    "brightness": "mean",
    "contrast": "standard deviation",
    "dark": "share of nearly black pixels",
    "bright": "share of nearly white pixels",
}

#: Longest side at which originals are measured, in pixels. There a blurred photograph still differs
#: from a sharp one, the noise of a sensor is averaged away, and milliseconds are enough.
SIDE = 384
#: Levels of 255 up to which a pixel is nearly black, and from which it is nearly white.
NEAR_BLACK, NEAR_WHITE = 13, 250
#: White of 16-bit images is the smallest of these that holds all values: cameras of 12 and 14 bits
#: write files of 16, which are not dark.
_DEPTHS = (4095, 16383, 65535)
#: The sharpest edges are the steepest 0.1 % of the pixels (98 of a photograph), so that a sharp subject
#: in front of a soft or empty background is sharp; darkest and brightest are the outer 0.1 %.
_OUTER = 0.001

#: Fewer images do not say what is usual.
FEWEST = 10
#: Robust standard deviations (1.4826 MAD of the logarithm) that an image has to lie from the median.
DEVIATIONS = 4.0
#: Share of the median below which an image is blurred, or dark (mean and contrast: a thin digit on
#: black is not). Of 200 to 1,000 images
#: of CIFAR-10, digits, cells and nuclei each, none is that soft; a Gaussian of 5 pixels leaves a
#: photograph of 1500 pixels 0.13 of the usual sharpness, and one of 12 pixels 0.05.
BELOW = 1 / 3
#: Sharpness of photographs that nobody would call blurred: the softest of 53 has 49.
SHARP = 35.0
#: Brightness from which nothing is dark (26 of 255), and below which an image is nearly black.
DARK, BLACK = 0.1, 0.01
#: Least share of nearly white pixels, and least brightness, of an overexposed image. At most this share
#: of the others, or this number, may have half as many, or else white is a usual background: 2 % of
#: CIFAR-10 are cut out on white.
WHITE_SHARE, BRIGHT, RARE, FEW = 0.25, 0.6, 0.02, 2
#: Contrast below which an image is nearly constant: one level of 255. It is usual where images use
#: little of the range, so the median has to be ten times as much.
FLAT, FLAT_BELOW = 1 / 255, 0.1
#: Contrast of images without any, up to rounding.
_NONE = 1e-6
#: Share of the images whose size or orientation makes another one odd.
NEARLY_ALL = 0.9
#: Factor between its side (root of the area), or the ratio of its sides, and the median, from which
#: an image is of an odd size where all sizes differ.
SIZE_FACTOR, RATIO_FACTOR = 4.0, 2.0
#: Orientations by the sign of width - height.
_SHAPES = {1: "wide", -1: "upright", 0: "square"}


class Kind(NamedTuple):
    """A kind of finding: its title, and what it means."""

    title: str
    meaning: str


KINDS: Mapping[str, Kind] = {
    "constant": Kind("constant", "without content: all pixels have the same value, or nearly"),
    "dark": Kind("dark", "dark or black, where nearly all other images are not"),
    "overexposed": Kind(
        "overexposed", "large parts are white, where hardly any other image has that"
    ),
    "blurred": Kind(
        "blurred", "even the sharpest edges are far softer than in nearly all other images"
    ),
    "odd size": Kind("odd size", "another size, shape or orientation than nearly all other images"),
    "duplicate": Kind("duplicate", "equal to an earlier image, at the size that the networks see"),
    "near duplicate": Kind("near duplicate", "hardly different from another image"),
}


@dataclass(frozen=True)
class Facts:
    """What is known about N images.

    Args:
        names: of the images.
        width: of the originals in pixels, int [N].
        height: of the originals in pixels, int [N].
        measures: :func:`measure` of each original, float [N] by name; NaN: not measured.
        duplicate_of: number of an equal image, or -1: int [N].
        near_duplicate_of: number of a nearly equal image, or -1: int [N].
    """

    names: Sequence[str]
    width: Array
    height: Array
    measures: Mapping[str, Array]
    duplicate_of: Array
    near_duplicate_of: Array


@dataclass(frozen=True)
class Finding:
    """Images of the same kind of finding: their numbers, and what is said of each."""

    kind: str
    numbers: list[int]
    texts: list[str]


def measure(pixels: Array, levels: tuple[float, float] | None = None) -> dict[str, float]:
    """Measure an original, at most ``SIDE`` pixels wide and high: ``MEASURES``.

    Args:
        pixels: [H, W, C], uint8, uint16, bool or float.
        levels: values that are black and white. By default, those of the type: 0 to 255, False to True,
            0 to 1 of floats, and in 16 bits 0 to 4095, 16383 or 65535, the first that holds all values.
    """
    low, high = levels or (0.0, _white(pixels))
    gray = (_small_gray(pixels) - np.float32(low)) * np.float32(255 / max(high - low, 1e-12))
    gray = np.nan_to_num(gray).clip(0, 255)
    laplacian = _laplacian(gray)
    outer = int(gray.size * _OUTER)
    ends = np.partition(gray, (outer, gray.size - 1 - outer), axis=None)
    darkest, brightest = ends[outer], ends[-1 - outer]
    steepest = np.partition(np.abs(laplacian), gray.size - 1 - outer, axis=None)[-1 - outer]
    flat = gray.min() == gray.max()
    return {
        "sharpness": float(100 * steepest / max(brightest - darkest, 1.0)),
        "detail": float(laplacian.var()),
        "brightness": float(gray.mean(dtype=np.float64) / 255),
        "contrast": 0.0 if flat else float(gray.std(dtype=np.float64) / 255),
        "dark": float((gray <= NEAR_BLACK).mean()),
        "bright": float((gray >= NEAR_WHITE).mean()),
    }


def _white(pixels: Array) -> float:
    if pixels.dtype == np.uint8:
        return 255.0
    if pixels.dtype.kind != "u":
        return 1.0
    most = int(pixels.max(initial=0))
    return float(next((white for white in _DEPTHS if most <= white), most))


def _small_gray(pixels: Array) -> Array:
    """Return the luma, or the first of channels that are not three, of at most SIDE pixels: float32."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L").convert("F")
    else:
        gray = pixels[:, :, 0].astype(np.float32)
        if pixels.shape[2] == 3:
            gray = pixels.astype(np.float32) @ LUMA.astype(np.float32)
        image = Image.fromarray(np.ascontiguousarray(gray))
    longer = max(image.size)
    if longer > SIDE:
        width, height = (max(1, round(n * SIDE / longer)) for n in image.size)
        image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(image)


def _laplacian(plane: Array) -> Array:
    """Return the Laplacian of a plane [H, W] by four neighbors; beyond the border it goes on."""
    wide = np.pad(plane, 1, mode="edge")
    neighbors = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    laplacian: Array = 4 * plane - neighbors
    return laplacian


def find_findings(facts: Facts) -> list[Finding]:
    """Find what is odd about originals, from their measures, sizes and duplicates.

    Of blurred, dark, overexposed and constant, an image is only one. Fewer than ``FEWEST`` images are
    only searched for duplicates and for constant ones.

    Returns:
        One entry for each kind that there is, in the order of ``KINDS``.
    """
    found = _findings_of_light(facts)
    if len(facts.names) >= FEWEST:
        found["odd size"] = _odd_sizes(facts.width, facts.height)
    for kind, others, phrase in (
        ("duplicate", facts.duplicate_of, "equal to"),
        ("near duplicate", facts.near_duplicate_of, "hardly different from"),
    ):
        numbers = np.flatnonzero(others >= 0).tolist()
        found[kind] = {i: f"{phrase} {facts.names[int(others[i])]}" for i in numbers}
    return [
        Finding(kind, list(found[kind]), list(found[kind].values()))
        for kind in KINDS
        if found.get(kind)
    ]


def _findings_of_light(facts: Facts) -> dict[str, dict[int, str]]:
    """Find constant, dark, overexposed and blurred images; each is only the first of these."""
    sharpness, brightness, contrast, bright = (
        facts.measures[name] for name in ("sharpness", "brightness", "contrast", "bright")
    )
    known = np.isfinite(sharpness)
    empty = known & (contrast < _NONE)
    found = {"constant": {i: _constant_text(brightness[i]) for i in _numbers(empty)}}
    if known.sum() < FEWEST:
        return found
    usual = np.nanmedian(contrast)
    dark = ~empty & (brightness < DARK) & _far_below(brightness) & (contrast < BELOW * usual)
    flat = ~(empty | dark) & (contrast < FLAT) & (contrast < FLAT_BELOW * usual)
    white = ~(empty | flat) & (bright >= WHITE_SHARE) & (brightness >= BRIGHT)
    white &= _count_above(bright / 2, bright) - 1 <= max(FEW, RARE * known.sum())
    soft = ~(empty | dark | flat | white) & (sharpness < SHARP) & _far_below(sharpness)

    usual_light, usual_contrast, usual_white, usual_sharpness = (
        f"usual is {_usual(values)}"
        for values in (brightness * 255, contrast * 255, bright * 100, sharpness)
    )
    found["constant"] |= {
        i: f"nearly constant: contrast {_number(contrast[i] * 255)} of 255, {usual_contrast}"
        for i in _numbers(flat)
    }
    found["dark"] = {
        i: f"{'nearly black' if brightness[i] < BLACK else 'dark'}: mean "
        f"{_number(brightness[i] * 255)} of 255, {usual_light}"
        for i in _numbers(dark)
    }
    found["overexposed"] = {
        i: f"overexposed: {_number(bright[i] * 100)} % of it is nearly white, {usual_white} %"
        for i in _numbers(white)
    }
    sharper = _count_above(sharpness, sharpness) / max(known.sum() - 1, 1)
    found["blurred"] = {
        i: f"blurred: its sharpest edges are softer than in {_share(sharper[i])}; sharpness "
        f"{_number(sharpness[i])}, {usual_sharpness}"
        for i in _numbers(soft)
    }
    return found


def _constant_text(brightness: float) -> str:
    name = {0.0: " (black)", 1.0: " (white)"}.get(round(float(brightness), 3), "")
    return f"constant: all its pixels are {_number(brightness * 255)} of 255{name}"


def _odd_sizes(width: Array, height: Array) -> dict[int, str]:
    """Find images of another size or orientation than nearly all, or far off where sizes differ."""
    count = len(width)
    sizes, which, often = np.unique(
        np.stack([width, height], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    most = int(often.argmax())
    if often[most] >= NEARLY_ALL * count:
        odd = which.ravel() != most
        usual = f"{often[most]} of {count} are {_shape(*sizes[most])}"
    else:
        shapes, which, often = np.unique(
            np.sign(width - height), return_inverse=True, return_counts=True
        )
        most = int(often.argmax())
        odd = (which != most) & (often[most] >= NEARLY_ALL * count)
        usual = f"{often[most]} of {count} are {_SHAPES[int(shapes[most])]}"
    found = {i: f"{_shape(width[i], height[i])}, where {usual}" for i in _numbers(odd)}

    side = np.sqrt(width * height.astype(np.float64))
    longer = np.maximum(width, height) / np.minimum(width, height)
    for values, factor, phrase in (
        (side, SIZE_FACTOR, "root of the area {}, usual is {}"),
        (longer, RATIO_FACTOR, "{} times as long as wide, usual is {}"),
    ):
        for i in _numbers(_far_from(values, factor)):
            text = phrase.format(_number(values[i]), _usual(values))
            found.setdefault(i, f"{_shape(width[i], height[i])}: {text}")
    return found


def _shape(width: int, height: int) -> str:
    return f"{_SHAPES[int(np.sign(width - height))]}, {width}x{height} pixels"


def _far_below(values: Array) -> Array:
    """Whether values are far below the median, in share and in robust deviations: bool [N]."""
    logs, median, deviation = _logs(values)
    below: Array = logs < median + min(np.log(BELOW), -DEVIATIONS * deviation)
    return below


def _far_from(values: Array, factor: float) -> Array:
    """Whether values are far from the median, by a factor and in robust deviations: bool [N]."""
    logs, median, deviation = _logs(values)
    far: Array = np.abs(logs - median) > max(np.log(factor), DEVIATIONS * deviation)
    return far


def _logs(values: Array) -> tuple[Array, float, float]:
    """Return logarithms of values, their median and their robust standard deviation."""
    logs = np.log(np.maximum(values, 1e-6))
    median = float(np.nanmedian(logs))
    return logs, median, 1.4826 * float(np.nanmedian(np.abs(logs - median)))


def _count_above(limits: Array, values: Array) -> Array:
    """Return how many of the known values exceed each limit: int [N]."""
    known = np.sort(values[np.isfinite(values)])
    return len(known) - np.searchsorted(known, limits, "right")


def _numbers(chosen: Array) -> list[int]:
    numbers: list[int] = np.flatnonzero(chosen).tolist()
    return numbers


def _usual(values: Array) -> str:
    """Return in words where nine of ten values lie."""
    low, high = (_number(value) for value in np.nanpercentile(values, (5, 95)))
    return low if low == high else f"{low} to {high}"


def _share(share: float) -> str:
    return "all others" if share >= 1 else f"{int(share * 1000) / 10:g} % of the images"


def _number(value: float) -> str:
    """Write a value with two digits, or as a whole number."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"
