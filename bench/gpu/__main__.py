"""``python -m bench.gpu``."""

import sys

from bench.gpu.kit import main

sys.exit(main(sys.argv[1:]))
