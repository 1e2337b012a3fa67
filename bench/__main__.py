"""Benchmarks by name: ``python -m bench NAME [OPTIONS]``.

train    training speed beside a peer
distributed  throughput of two processes that train together beside one
linear   cost of training the GAN by its length and the number of images
levels   seconds per kimg of paper-size networks at every level of detail
score    scoring speed beside a peer
memory   memory of scoring, from ten thousand to a million images
datasets  the image sets of the documents, from their public sources
large    ranks, report and review of ten million scored images
data     writer, minibatches, manifests
crops    crops of objects against masks
review   looks needed until most anomalies are found
presets  seconds and peak memory of a preset, view by view
loop     rounds of review, cleaning and training anew
thresholds  real false discovery rates against the promised one
defects  small defects on textured surfaces, seen whole and by tiles
photographs  a camera's folder with planted oddities, to look through
fuzz     random edits of models, searches and reviews, or of data files
watch    looks at large folders, long tables, and the time from a file to its score
export   exported models beside PyTorch: scores and speed
cluster  scoring by a Ray cluster, one worker of which is killed, beside one process
service  a scoring service at twice its capacity, for ten minutes
page     a review of 100,000 images in a browser
pictures  the pictures of the documents
capacity  images a second of each step, from files to a table, and what a billion would take
gpu      speed, parity and a default-length trial on a GPU
"""

from __future__ import annotations

import importlib
import sys

NAMES = [line.split()[0] for line in (__doc__ or "").splitlines()[2:] if line]


def main(arguments: list[str]) -> int:
    """Run a benchmark, or print their names."""
    if not arguments or arguments[0] not in NAMES:
        print(__doc__)
        return 0 if arguments[:1] in ([], ["-h"], ["--help"]) else 2
    module = importlib.import_module(f"bench.{arguments[0]}")
    result: int = module.main(arguments[1:])
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
