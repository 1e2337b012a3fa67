"""A project of Label Studio: tasks with predictions, and the labeling configuration that belongs to them.

An image is addressed by a prefix and its path, with percent-encoding. Unless a prefix is given, it is that of
Label Studio's local file serving with ``/`` as document root, and the paths are absolute.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anowild.exchange.formats.base import Format, Options, SharedImage, text_of, write_list

TASKS, CONFIG = "tasks.json", "labels.xml"
LOCAL = "/data/local-files/?d="
#: Names in the configuration that tasks refer to.
_CHOICE, _IMAGE = "verdict", "image"
_CONFIG = f"""<View>
  <Header value="$name"/>
  <Image name="{_IMAGE}" value="$image" zoom="true" zoomControl="true"/>
  <Choices name="{_CHOICE}" toName="{_IMAGE}" choice="single" showInline="true">
    <Choice value="odd"/>
    <Choice value="usual"/>
  </Choices>
  <Text name="reasons" value="$reasons"/>
</View>
"""


class LabelStudio(Format):
    """tasks.json and labels.xml; verdicts of a review are annotations, so that these images count as labeled."""

    name = "label-studio"
    # What browsers show.
    endings = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".avif"})
    options = frozenset({"url_prefix"})

    def write(self, images: Sequence[SharedImage], folder: Path, options: Options) -> None:
        prefix = options.url_prefix
        files = [text_of(image.file) for image in images]
        # Without a prefix, paths are relative to the document root, which is /.
        root = "/" if prefix is None else os.path.commonpath(map(os.path.dirname, files))
        start = LOCAL if prefix is None else prefix
        urls = (start + quote(os.path.relpath(file, root)) for file in files)
        with (folder / TASKS).open("w", encoding="utf-8") as file:
            write_list(file, map(_task, images, urls))
        (folder / CONFIG).write_text(_CONFIG, encoding="utf-8")


def _task(image: SharedImage, url: str) -> dict[str, Any]:
    data = {
        "image": url, "name": image.name, "reasons": image.why, "score": image.score,
        "p_value": image.p_value, "flagged": image.flagged, "findings": image.findings,
        "tags": list(image.tags),
    }  # fmt: skip
    told = "odd" if image.flagged else "usual"
    # The score sorts tasks; from 0 to 1, so that an image with a high one is odd.
    prediction = {"model_version": "anowild", "score": 1 - image.p_value, "result": [_choice(told)]}
    task: dict[str, Any] = {"data": data, "predictions": [prediction]}
    if image.marked is not None:
        task["annotations"] = [{"result": [_choice(image.marked)]}]
    return task


def _choice(value: str) -> dict[str, Any]:
    return {
        "from_name": _CHOICE, "to_name": _IMAGE, "type": "choices", "value": {"choices": [value]},
    }  # fmt: skip


FORMAT = LabelStudio()
