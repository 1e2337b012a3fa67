"""What every reader offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np


@dataclass(frozen=True)
class Record:
    """One image: its name, unique in the source, and its pixels [H, W, C] as they are stored."""

    name: str
    pixels: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Unreadable:
    """An image that had to be left out, and a clause that says why."""

    name: str
    reason: str


class Reader(Protocol):
    """Streams the images of one source, always in the same order."""

    KIND: ClassVar[str]  # for a message: what this reader takes

    def __init__(self, source: str) -> None:
        """Open a source; raises UserError if nothing in it can be read."""

    @staticmethod
    def takes(source: str) -> bool:
        """Whether this reader is the one for ``source``."""
        ...

    def __len__(self) -> int:
        """Number of images, readable or not."""
        ...

    def shapes(self) -> Iterator[tuple[int, int, int]]:
        """Height, width and channels of each image, cheaply; unreadable ones are passed over."""
        ...

    def __iter__(self) -> Iterator[Record | Unreadable]: ...
