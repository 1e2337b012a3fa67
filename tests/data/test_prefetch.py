"""Reading ahead in a thread."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anowild.data.image_set import ImageSet
from anowild.data.image_stream import ImageStream
from anowild.data.prefetch import prefetch
from anowild.data.sources import open_all
from anowild.errors import UserError
from tests.conftest import reading_threads


def test_items_come_in_order_and_no_more_than_so_many_ahead() -> None:
    made = 0

    def items() -> Any:
        nonlocal made
        while made < 50:
            made += 1
            yield made

    with prefetch(items(), depth=3) as read:
        for taken, item in enumerate(read, start=1):
            assert item == taken
            time.sleep(0.001)
            assert made <= taken + 4  # three that wait, and one that wants to
    assert taken == 50
    assert not reading_threads()


def test_an_exception_comes_where_its_item_would_have_come() -> None:
    def items() -> Any:
        yield from range(5)
        raise UserError("broken")

    taken = []
    with pytest.raises(UserError, match="broken"), prefetch(items()) as read:  # noqa: PT012
        for item in read:
            taken.append(item)
    assert taken == [0, 1, 2, 3, 4]
    assert not reading_threads()


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("wait", [0.0, 0.01])
def test_leaving_early_ends_the_thread_and_the_generator(depth: int, wait: float) -> None:
    closed = threading.Event()

    def items() -> Any:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with pytest.raises(KeyboardInterrupt), prefetch(items(), depth) as read:  # noqa: PT012
        next(iter(read))
        time.sleep(wait)
        raise KeyboardInterrupt
    assert closed.is_set()
    assert not reading_threads()


def test_a_stream_is_left_between_two_images(image_set: ImageSet, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", image_set.images[:, 0])
    stream = ImageStream(open_all(tmp_path / "x.npy"), image_set.preprocess)
    with prefetch(stream.batches(10), cancel=stream.stop) as read:
        first = next(iter(read))
    assert len(first.names) == 10
    assert list(stream.batches(10)) == []
    assert stream.left_out == []
