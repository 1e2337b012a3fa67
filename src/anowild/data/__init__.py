"""Image data: from sources to preprocessed images. Free of torch.

`readers` decode sources, `crops` cuts objects out of frames, `preprocessing` brings an image to the
form that the networks take, and `preprocess_choice` chooses how. `sources` opens what is given, `image_stream` reads
it in batches, `image_set` holds it in memory, and `prefetch` reads in a thread ahead of the use. `dataset` packs
sources into a data set on disk, `spreadsheet` reads and writes tables as CSV, `label_file` reads files of labels, `contamination` injects known
anomalies, `download` fetches well-known sets, `stores` reaches those behind URLs.

Of originals, `originals` reads the pixels again, `display` makes pictures for people of them, `seen` says what the
views see of one, and `checks` finds what is blurred, dark or there twice. `value_range` and `overlap` warn of values
that make little sense, and of images that are read twice.
"""

from anowild.data.contamination import Contamination, inject_anomalies
from anowild.data.dataset.format import PackedSet
from anowild.data.image_set import ImageSet
from anowild.data.image_stream import ImageStream
from anowild.data.preprocess_choice import choose_preprocess
from anowild.data.preprocessing import Preprocess
from anowild.data.sources import open_all

__all__ = [
    "Contamination",
    "ImageSet",
    "ImageStream",
    "PackedSet",
    "Preprocess",
    "choose_preprocess",
    "inject_anomalies",
    "open_all",
]
