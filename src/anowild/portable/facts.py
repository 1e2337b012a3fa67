"""What an exported file says of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from anowild.checked import Count, checked
from anowild.data import Preprocess

#: Name under which the facts stand in the metadata of a file.
METADATA = "anowild"
FORMAT = 1
#: Types of pixels that a graph can take.
PIXELS = ("uint8", "uint16", "float32")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts of an exported model, kept as JSON in the metadata of its file."""

    version: str  # of AnoWild
    checksum: str  # of the model's weights
    pixels: str  # type of the images that the graph takes, one of PIXELS
    preprocess: Mapping[str, Any]
    threshold: float  # score from which images are flagged
    views: tuple[str, ...]  # names of the columns of the output `views`
    cues: tuple[str, ...]  # and of `cues`
    training_images: Count | None = None  # None: not known
    layout: str = "NHWC"
    format: int = FORMAT

    @property
    def rule(self) -> Preprocess:
        """The preprocessing, which the graph holds."""
        return Preprocess(**self.preprocess)

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_text(text: str) -> Facts:
        """Read facts.

        Raises:
            ValueError: they are damaged, or of a later version; the message says what is wrong.
        """
        found = json.loads(text)
        if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
            raise ValueError("it was made by a later version of AnoWild; update anowild")
        facts = checked(Facts, found, "metadata")
        if facts.pixels not in PIXELS:
            raise ValueError(f"metadata.pixels is '{facts.pixels}'")
        try:
            facts.rule  # noqa: B018
        except TypeError as error:
            raise ValueError(f"metadata.preprocess: {error}") from error
        return facts
