"""Where the arithmetic runs."""

from __future__ import annotations

import resource
import sys

import torch

from anowild.errors import UserError


def choose_device(name: str = "auto", threads: int | None = None) -> torch.device:
    """The GPU if there is one, else the CPU; ``name`` may ask for one, as in ``cpu`` or ``cuda:1``.

    Raises:
        UserError: the device asked for is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here: take 'cpu' or 'auto'") from error
    # Full float32 everywhere: a score must not change by rounding to 10 bits.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


def peak_memory_mb(device: torch.device) -> float:
    """Most memory taken so far, in MB: the GPU's tensors, or the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
