"""AnoWild finds the odd images in a folder that nobody has labeled.

The public API, in the order of a first session; each name is imported when it is first used,
because PyTorch takes two seconds:

>>> import anowild
>>> detector = anowild.train("images", "model", anowild.preset("laptop").settings())  # doctest: +SKIP
>>> for row in anowild.score("model", "images").rows()[:10]:                           # doctest: +SKIP
...     print(row.rank, row.path, row.score)

- ``prepare``, ``contaminate``: packed data sets, experiments (`anowild.preparation`)
- ``train``, ``score``, ``evaluate``: the main jobs, as the command line has them (`anowild.api`)
- ``Detector``: a trained model; ``ImageSet``, ``PackedSet``: preprocessed images
- ``Settings``, ``preset``, ``PRESETS``: all that can be set
- ``UserError``: what all of them raise for something that the user can mend
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anowild.errors import UserError
from anowild.presets import PRESETS, preset
from anowild.settings import Settings
from anowild.version import VERSION as __version__

if TYPE_CHECKING:
    from anowild.api import evaluate, score, train
    from anowild.data import ImageSet, PackedSet
    from anowild.preparation import contaminate, prepare
    from anowild.scoring import Detector

__all__ = [
    "PRESETS",
    "Detector",
    "ImageSet",
    "PackedSet",
    "Settings",
    "UserError",
    "__version__",
    "contaminate",
    "evaluate",
    "prepare",
    "preset",
    "score",
    "train",
]

_LATE = {
    "Detector": "anowild.scoring",
    "ImageSet": "anowild.data",
    "PackedSet": "anowild.data",
    "contaminate": "anowild.preparation",
    "evaluate": "anowild.api",
    "prepare": "anowild.preparation",
    "score": "anowild.api",
    "train": "anowild.api",
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'anowild' has no attribute '{name}'")
