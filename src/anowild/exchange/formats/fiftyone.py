"""A data set of FiftyOne, as its type ``FiftyOneDataset`` imports it from a folder.

It is written in the plain layout, metadata.json without a version and samples.json, which every version of FiftyOne
imports: in the other one each sample needs the number of a database.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anowild.exchange.formats.base import Format, Options, SharedImage, text_of, write_list

METADATA, SAMPLES = "metadata.json", "samples.json"
FLAGGED = "flagged"
_FIELDS = "fiftyone.core.fields"
_FLOAT, _TEXT = f"{_FIELDS}.FloatField", f"{_FIELDS}.StringField"


class FiftyOne(Format):
    """Samples with score, p_value, scores of views, reasons, findings, mark, and the tag "flagged"."""

    name = "fiftyone"
    # What its app, a browser, shows.
    endings = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".avif"})

    def folder_of(self, image: SharedImage, options: Options) -> str:
        return "data"

    def write(self, images: Sequence[SharedImage], folder: Path, options: Options) -> None:
        views = sorted({view for image in images for view in image.views})
        metadata = {
            "media_type": "image",
            "sample_fields": _schema(views),
            "info": {
                "source": "anowild",
                "score": "one in 10^score training images is as odd, or odder",
            },
        }
        (folder / METADATA).write_text(json.dumps(metadata, indent=1), encoding="utf-8")
        with (folder / SAMPLES).open("w", encoding="utf-8") as file:
            file.write('{"samples": ')
            write_list(file, map(_sample, images))
            file.write("}\n")


def _schema(views: Sequence[str]) -> dict[str, str]:
    """Return the types of the fields, so that those are there that have no value in any sample."""
    return {
        "filepath": _TEXT,
        "tags": f"{_FIELDS}.ListField({_TEXT})",
        "score": _FLOAT,
        "p_value": _FLOAT,
        **{f"view_{view}": _FLOAT for view in views},
        "reasons": _TEXT,
        "findings": _TEXT,
        "mark": f"{_FIELDS}.EmbeddedDocumentField(fiftyone.core.labels.Classification)",
    }


def _sample(image: SharedImage) -> dict[str, Any]:
    mark = None if image.verdict is None else {"_cls": "Classification", "label": image.verdict}
    return {
        # Relative paths are below the folder of the data set, so that it can be moved.
        "filepath": text_of(image.inside or image.file),
        "tags": list(dict.fromkeys([*([FLAGGED] if image.flagged else []), *image.tags])),
        "score": image.score,
        "p_value": image.p_value,
        **{f"view_{view}": score for view, score in image.views.items()},
        "reasons": image.why,
        "findings": image.findings,
        "mark": mark,
    }


FORMAT = FiftyOne()
