"""The set-up of a process."""

from __future__ import annotations

import os

import torch
from threadpoolctl import threadpool_info

from anowild.device import configure_process


def test_threads_are_those_of_all_products() -> None:
    for threads in (2, 1):
        configure_process(threads)
        assert torch.get_num_threads() == threads
        known = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        assert {pool["num_threads"] for pool in known} <= {threads}
        assert os.environ["OPENBLAS_NUM_THREADS"] == str(threads)  # for libraries that come later


def test_threads_that_are_not_given_are_those_of_pytorch() -> None:
    torch.set_num_threads(2)
    configure_process()
    assert torch.get_num_threads() == 2
    known = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert {pool["num_threads"] for pool in known} <= {2}
