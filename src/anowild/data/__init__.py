"""Stations 1 and 2: pixels -> data set -> batches. Imports what lies beside it in `anowild`, no more.

`readers` decode sources, `crops` cuts objects out of frames, `preprocess` brings an image to the
networks' form, `images` collects or streams them (`prefetch`: read in a thread of its own), `batches`
hands them to training.
`prepare` turns sources into a packed data set (`packed`): `writer` writes it, `finish` ends it
with the gate of `quality`, `contact_sheet` shows it. `contamination` spoils a set on purpose,
`fetch` downloads known ones, `labels` reads files of labels.
"""

from anowild.data.contamination import Contamination, contaminate
from anowild.data.dataset.format import PackedSet
from anowild.data.image_set import ImageSet, ImageStream, choose_preprocess, open_all
from anowild.data.preprocessing import Preprocess

__all__ = [
    "Contamination",
    "ImageSet",
    "ImageStream",
    "PackedSet",
    "Preprocess",
    "choose_preprocess",
    "contaminate",
    "open_all",
]
