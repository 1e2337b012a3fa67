"""``python -m bench NAME [OPTIONS]``: the benchmarks, by name.

train    training speed beside a peer
linear   cost of training against its length and the number of images
levels   seconds per kimg of paper-size networks at every level of detail
score    scoring speed beside a peer
memory   memory of scoring, from ten thousand to a million images
datasets  the image sets of the documents, from their public sources
data     writer, minibatches, manifests
crops    crops of objects against masks
review   images to look at until most anomalies are found
loop     what rounds of looking, cleaning and training anew give
thresholds  what a false discovery rate promises, and keeps
page     a review of 100,000 images in a browser
gpu      speed, parity and a default-length trial on a GPU
"""

from __future__ import annotations

import importlib
import sys

NAMES = [line.split()[0] for line in (__doc__ or "").splitlines()[2:] if line]


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in NAMES:
        print(__doc__)
        return 0 if arguments[:1] in ([], ["-h"], ["--help"]) else 2
    module = importlib.import_module(f"bench.{arguments[0]}")
    result: int = module.main(arguments[1:])
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
