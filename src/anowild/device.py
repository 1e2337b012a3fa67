"""Choice of the compute device, its numeric precision, speed and memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal

import torch
from threadpoolctl import threadpool_limits

from anowild.errors import UserError

#: CPU threads, at most: more than any machine has, and less than what no system gives.
MOST_THREADS = 1024


def select_device(name: str = "auto") -> torch.device:
    """Return the GPU if there is one, else the CPU; ``name`` may ask for one, as ``cpu`` or ``cuda:1``.

    Raises:
        UserError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(str(name))
        if device.type == "meta":
            raise RuntimeError("it holds no values")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, OverflowError) as error:
        raise UserError(f"device '{name}' cannot be used here; take 'cpu' or 'auto'") from error
    return device


def configure_process(threads: int | None = None) -> None:
    """Set up this process for long computations: number of CPU threads, and how memory is kept.

    For commands and trainings, which own their process. Loading and scoring never call it.

    Args:
        threads: of PyTorch and of NumPy's and SciPy's products on the CPU; None: as PyTorch has now.

    Raises:
        UserError: there are none, or more than ``MOST_THREADS``.
    """
    if threads is not None:
        if not 1 <= threads <= MOST_THREADS:
            raise UserError(f"threads are {threads}: they have to be from 1 to {MOST_THREADS}")
        torch.set_num_threads(threads)
    # Products of another number of threads round otherwise, and a run that goes on has to end in the same
    # bits, in whichever process. SciPy's library may be loaded only later: it reads the environment then.
    threads = torch.get_num_threads()
    os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    # In a thread that ends: threadpoolctl lets no other thread than the one that set a limit set another, and
    # scikit-learn does so wherever its own threads multiply.
    setting = threading.Thread(target=threadpool_limits, args=[threads, "blas"])
    setting.start()
    setting.join()
    _keep_freed_memory()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 products in float32 on a GPU, not in TF32, which rounds to 10 bits.

    The setting is the process's, and is put back afterwards. Nothing happens on a CPU.
    """
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = False, False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def gpus() -> list[str]:
    """Return the names of all GPUs."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def share_freed_memory() -> None:
    """Have threads that are started from now on share one pool of glibc's, not each keep what it once needed.

    Elsewhere than on glibc nothing happens.
    """
    _mallopt({-8: 1})  # M_ARENA_MAX


def _keep_freed_memory() -> None:
    """Have glibc keep blocks of up to 32 MB that were freed, for the next ones of their size.

    Else every feature map is new memory, which the system clears page by page: a tenth of the time
    of a small network. Elsewhere than on glibc nothing happens.
    """
    _mallopt({-1: 2**31 - 1, -3: 32 << 20})  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD


def _mallopt(values: Mapping[int, int]) -> None:
    """Set parameters of glibc's allocator, by their numbers in malloc.h."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, value in values.items():
                mallopt(parameter, value)


def training_dtype(
    precision: Literal["float32", "bfloat16", "auto"], device: torch.device
) -> torch.dtype | None:
    """Return the type that convolutions are trained in, as `networks.operators.conv_precision` takes it.

    ``auto`` is bfloat16 where the device multiplies it faster than float32: on a GPU with tensor
    cores for it, on a CPU with instructions of its own for it (AVX-512 BF16, AMX).
    """
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.get_device_capability(device) >= (8, 0)
        else:
            known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
            fast = device.type == "cpu" and known is not None and bool(known())
        precision = "bfloat16" if fast else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None


def matrix_product_peak(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Measure the floating-point operations a second of the best matrix product on a device.

    With the threads that are set now. A convolution's own kernels may be a little faster.
    """
    best = 0.0
    for side in (512, 1024) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        for _ in range(6):
            _wait(device)
            started = time.perf_counter()
            torch.mm(a, b, out=out)
            _wait(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory so far, in MB: of the GPU's tensors, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
