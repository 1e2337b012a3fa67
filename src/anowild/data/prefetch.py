"""Prefetching: a thread produces the next items while the current ones are processed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """Marker after the last item, with the exception that ended the production, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def prefetch(
    items: Generator[Item, None, None], depth: int = 2, cancel: Callable[[], None] = lambda: None
) -> Iterator[Iterator[Item]]:
    """Run a generator in a thread, and iterate over its items in this one.

    The order is kept, and an exception is raised in place of its item. On exit, the thread has ended
    and the generator is closed.

    Args:
        items: the generator.
        depth: number of items that are produced ahead.
        cancel: called on exit; it may tell the generator to end at once.

    >>> with prefetch(n * n for n in range(3)) as squares:
    ...     list(squares)
    [0, 1, 4]
    """
    waiting: Queue[Item | _End] = Queue(depth)
    stop = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            for item in items:
                if stop.is_set():
                    break
                waiting.put(item)
        except BaseException as error:
            end = _End(error)
        finally:
            items.close()
        if not stop.is_set():
            waiting.put(end)

    def consume() -> Iterator[Item]:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    # A daemon, so that a second Ctrl-C does not wait for the item in production.
    producer = threading.Thread(target=produce, name="anowild-prefetch", daemon=True)
    producer.start()
    try:
        yield consume()
    finally:
        stop.set()
        cancel()
        # This makes room for an item that the thread is about to put; before the next one it stops.
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        producer.join()
