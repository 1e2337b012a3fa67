"""Reading ahead: the next items are made in a thread while the last ones are worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """Stands behind the last item, with what broke the making off, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def prefetch(
    items: Generator[Item, None, None], depth: int = 2, cancel: Callable[[], None] = lambda: None
) -> Iterator[Iterator[Item]]:
    """Run a generator in a thread, at most ``depth`` items ahead, and iterate over what it yields.

    The order stays, and an exception is raised where its item would have come. However the block
    is left, the thread has ended then and the generator is closed.

    Args:
        cancel: called when no more items are wanted; the generator may end at once then.

    >>> with prefetch(n * n for n in range(3)) as squares:
    ...     list(squares)
    [0, 1, 4]
    """
    waiting: Queue[Item | _End] = Queue(depth)
    stop = threading.Event()

    def make() -> None:
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

    def take() -> Iterator[Item]:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    # A daemon, so that a second Ctrl-C does not have to wait for the item in the making.
    maker = threading.Thread(target=make, name="anowild-prefetch", daemon=True)
    maker.start()
    try:
        yield take()
    finally:
        stop.set()
        cancel()
        # Whoever waits for room gets it here, once; before the next item it sees that it may stop.
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        maker.join()
