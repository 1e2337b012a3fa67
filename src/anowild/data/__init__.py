"""Stations 1 and 2: pixels -> data set -> batches. Imports only `config`, `errors`, `files`.

`readers` decode sources, `preprocess` brings an image to the networks' form, `images` collects
or streams them, `batches` hands them to training, `contamination` spoils a set on purpose.
"""

from anowild.data.contamination import Contamination, contaminate
from anowild.data.images import ImageSet, ImageStream, choose_preprocess, open_all
from anowild.data.preprocess import Preprocess

__all__ = [
    "Contamination",
    "ImageSet",
    "ImageStream",
    "Preprocess",
    "choose_preprocess",
    "contaminate",
    "open_all",
]
