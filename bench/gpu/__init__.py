"""The GPU kit: everything that needs a GPU, in one command."""

from bench.gpu.kit import main

__all__ = ["main"]
