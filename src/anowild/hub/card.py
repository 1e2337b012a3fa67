"""The model card: what a model's own files say of it, and what results of the method allow to say.

Whatever is not known is left out; nothing is guessed, above all no license.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from anowild.data.value_range import ValueRange
from anowild.errors import UserError
from anowild.evaluation.evaluate import Evaluation
from anowild.presets import PRESETS
from anowild.scoring import Detector
from anowild.scoring.saved_limit import SavedLimit
from anowild.scoring.scores import USUAL_LIMIT
from anowild.settings import Settings
from anowild.shown import shown_limit
from anowild.version import VERSION

#: The file that the Hub shows as a repository's page.
CARD = "README.md"
TAGS = ("anowild", "anomaly-detection", "outlier-detection", "unsupervised", "safetensors")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")

#: What docs/results.md and docs/thresholds.md support, of any model.
_LIMITS = """\
- A score says how unusual an image is among the training images: not that something is wrong with it. A score of *s*
  is reached by about one in 10^*s* training images.
- It was trained without labels. What is frequent among the training images is taken for usual, anomalies included:
  where a fifth of the training images were anomalies, two of six sets of the method's own measurements had an AUROC
  of 0.8 or less.
- Images from elsewhere (another camera, light or subject) score higher for that alone; a ranking of them says little.
- How well anomalies are ranked depends on the images. The method's own measurements range from an AUROC of 0.823
  to 0.995 over nine sets with 5 % of anomalies (0.684 to 0.996 without the view `pretrained`); they say nothing about
  this model on your images. Measure it on labeled images of your own (`anowild evaluate`).
- Training images score lower than others like them."""

_PRIVACY = """\
The weights come from the training images: networks that were trained on them, and vectors and statistics that were
measured on them. They may let others infer what these images look like."""


def check_license(license_name: str | None) -> None:
    """Check that a license can be one of the Hub's identifiers.

    Raises:
        UserError: it cannot.
    """
    if license_name is not None and not _LICENSE.fullmatch(license_name):
        raise UserError(
            f"license '{license_name}': give an identifier in small letters, such as apache-2.0, cc-by-4.0 or other"
        )


def model_card(
    detector: Detector,
    license_name: str | None,
    evaluation: Evaluation | None,
    limit: SavedLimit | None,
    with_images: bool,
) -> str:
    """Return the model card of a detector, Markdown with a head in YAML.

    Args:
        detector: as it is given away.
        license_name: an identifier of the Hub; None: nothing is said.
        evaluation: a measurement of the detector on labeled images; None: nothing is said.
        limit: that is kept with the model.
        with_images: whether reference images and hashes of training images come with it.
    """
    sections = [
        _head(license_name),
        "# Anomaly detector for images\n\nMade with AnoWild, which finds the odd images in a folder that nobody has labeled.",
        _usage(),
        "## Training\n\n" + _table(_training(detector)),
        "## Views\n\n" + _views(detector),
        "## Limit\n\n" + _limit(limit),
        "## Evaluation\n\n"
        + ("No evaluation was given." if evaluation is None else _evaluation(evaluation)),
        f"## Limits of use\n\n{_LIMITS}",
        f"## What the files hold\n\n{_PRIVACY}\n{_files(detector, with_images)}",
    ]
    return "\n\n".join(sections) + "\n"


def _head(license_name: str | None) -> str:
    lines = ["library_name: anowild", "pipeline_tag: image-classification"]
    if license_name is not None:
        lines.append(f"license: {json.dumps(license_name)}")
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in TAGS), "---"])


def _usage() -> str:
    return """\
## Use

    pip install 'anowild[hub]'
    anowild score hf://OWNER/NAME IMAGES -o scores.csv

or in Python `anowild.from_pretrained("hf://OWNER/NAME")`; OWNER/NAME is the name of this page. The files hold numbers
and JSON; loading them runs no code of theirs."""


def _training(detector: Detector) -> dict[str, str]:
    """Return what is known of the training, by its name."""
    info, p = detector.training_info, detector.preprocess
    found = {"AnoWild": VERSION}
    if info.get("images"):
        tiles = f", cut into {info['tiles']:,} tiles" if info.get("tiles") else ""
        found["training images"] = f"{info['images']:,}, without labels{tiles}"
    found["images as the model sees them"] = (
        f"{p.resolution} x {p.resolution}, {p.channels} channel{'s' * (p.channels > 1)}, {p.dtype}"
    )
    values = ValueRange.from_json(info.get("values"))
    if values is not None and len(values):
        kind, channels, low, high = values.usual
        found["images as they were read"] = (
            f"mostly {kind} with {channels} channel{'s' * (channels > 1)}, values from {low:g} to {high:g}"
        )
    settings = info.get("settings")
    if settings:
        found["settings"] = _settings(settings)
    if info.get("failed"):
        found["views that could not be used"] = ", ".join(info["failed"])
    return found


def _settings(stored: Mapping[str, Any]) -> str:
    """Say by which preset the settings can be had, and with which changes."""
    try:
        settings = vars(Settings.from_json(stored))
    except UserError:  # of a later version
        return "see `training.settings` in model.json"
    presets = {name: vars(preset.settings()) for name, preset in PRESETS.items()}
    differing = {
        name: [key for key, value in settings.items() if preset[key] != value]
        for name, preset in presets.items()
    }
    name = min(differing, key=lambda key: len(differing[key]))
    changes = ", ".join(f"{key}={_value(settings[key])}" for key in differing[name])
    return f"those of the preset `{name}`" + (f" with `{changes}`" if changes else "")


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _views(detector: Detector) -> str:
    """Say which views look at an image, which of their cues count, and how long their training took."""
    fitted = detector.training_info.get("views") or {}
    lines = []
    for view in detector.views:
        counted = detector.calibration.counted
        cues = [cue for cue in view.cues if cue.name in counted]
        facts = ", ".join(
            f"{key} {_fact(value)}" for key, value in fitted.get(view.name, {}).items()
        )
        lines.append(f"- **{view.name}**" + (f" ({facts})" if facts else ""))
        lines += [f"  - `{cue.name}`: {cue.meaning}" for cue in cues]
    return (
        "Each looks at an image in its own way; these are the measurements that count. What is in brackets is what "
        "the training has noted (kimg: thousands of images shown).\n\n" + "\n".join(lines)
    )


def _fact(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_fact(item)}" for key, item in value.items())
    return str(value)


def _limit(limit: SavedLimit | None) -> str:
    usual = (
        f"5 % of the training images reach a score of {USUAL_LIMIT:.2f}. That is a convention and comes "
        "without a promise."
    )
    if limit is None:
        return f"No limit is kept with the model. {usual}"
    return f"Kept with the model: {shown_limit(limit.score)} (chosen on {limit.saved}); `--threshold saved` uses it. {usual}"


def _evaluation(found: Evaluation) -> str:
    rows = [
        f"| {name} | {quality.auroc} | {quality.average_precision} | {quality.f1 or ''} |"
        for name, quality in found.columns.items()
    ]
    return "\n".join(
        [
            f"On {found.normal:,} normal images and {found.anomalous:,} anomalies, which whoever uploaded this has "
            f"labeled ({found.left_out:,} left out, {found.unlabelled:,} without a label); 95 % intervals.",
            "",
            f"| | AUROC | average precision | F1 at {found.threshold:.3f} |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def _files(detector: Detector, with_images: bool) -> str:
    if not with_images:
        return "Training images, and hashes of them, do not come with the model."
    return f"{len(detector.reference_images.images):,} ordinary training images, and hashes of all of them, come with the model."


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]
    )
