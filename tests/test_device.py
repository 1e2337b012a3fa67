"""The set-up of a process."""

from __future__ import annotations

import os
import threading

import torch
from threadpoolctl import threadpool_info, threadpool_limits

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


def test_other_threads_can_limit_products() -> None:
    """Else OpenBLAS warns of every product in a parallel loop of scikit-learn, which limits it meanwhile."""
    found: list[set[int]] = []

    def limited() -> None:
        with threadpool_limits(1, "blas"):
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            found.append({pool["num_threads"] for pool in pools})

    configure_process(2)
    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
    assert found == [{1}]
