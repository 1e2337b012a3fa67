"""Progress of long work on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress


T = TypeVar("T")


class Bar:
    """Progress of a piece of work.

    Args:
        progress: Rich's display; None to print a line at most every ``QUIET_SECONDS``.
        name: what is under way.
        total: amount of work; None if it is unknown.
        done: amount done before, which does not count for the rate.
    """

    QUIET_SECONDS = 30.0

    def __init__(
        self, progress: Progress | None, name: str, total: float | None, done: float
    ) -> None:
        self._progress = progress
        self._name = name
        self._total = total
        self._task = progress.add_task(name, total=total, note="") if progress else None
        if progress is not None and self._task is not None:
            progress.update(self._task, completed=done)
        self._shown = time.monotonic()
        self._started, self._start_done = time.monotonic(), done

    def update(self, done: float, note: str = "") -> None:
        """Show the amount done, with ``note`` or, without one, the rate."""
        now = time.monotonic()
        note = note or f"{(done - self._start_done) / max(now - self._started, 1e-9):.4g}/s"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=note)
        elif now - self._shown >= self.QUIET_SECONDS:
            self._shown = now
            if self._total is None:
                reached = f"{done:.6g}"
            else:
                rate = (done - self._start_done) / (now - self._started)
                reached = f"{done:.6g} of {self._total:.6g}"
                if rate > 0:
                    reached += f", {(self._total - done) / rate / 60:.1f} min left"
            print(f"{self._name}: {reached}, {note}", file=sys.stderr, flush=True)

    def counting(self, parts: Iterable[T], size: int) -> Iterator[T]:
        """Yield the parts, and count ``size`` for each once the next one is requested."""
        for number, part in enumerate(parts):
            self.update(number * size)
            yield part


class _ReportingBar(Bar):
    """A bar whose progress another process shows."""

    INTERVAL = 0.5  # seconds

    def update(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if now - self._shown >= self.INTERVAL:
            self._shown = now
            rate = (done - self._start_done) / max(now - self._started, 1e-9)
            self.report(done, note or f"{rate:.4g}/s")

    def report(self, done: float, note: str = "") -> None:
        """Report the amount done at once."""
        if _report is not None:
            _report(name=self._name, total=self._total, done=done, note=note)


_report: Callable[..., None] | None = None


def report_to(report: Callable[..., None]) -> None:
    """Have all bars of this process call ``report`` with what :meth:`Bars.update` takes."""
    global _report  # noqa: PLW0603
    _report = report


class Bars:
    """Progress of several pieces of work that run at the same time."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._bars: dict[str, Bar] = {}

    def update(self, name: str, total: float | None, done: float, note: str) -> None:
        """Show the amount done of a piece."""
        if _report is not None:
            _report(name=name, total=total, done=done, note=note)
            return
        if name not in self._bars:
            self._bars[name] = Bar(self._progress, name, total, done)
        self._bars[name].update(done, note)


@contextmanager
def bar(name: str, total: float | None, done: float = 0.0) -> Iterator[Bar]:
    """Show progress on stderr: a bar on a terminal, otherwise a line now and then.

    Args:
        name: what is under way.
        total: amount of work; None if it is unknown.
        done: amount done before.
    """
    if _report is not None:
        # Beginning and end are always reported: a part may be done already, or take no time.
        reporting = _ReportingBar(None, name, total, done)
        reporting.report(done)
        yield reporting
        if total is not None:
            reporting.report(total)
        return
    with _display() as progress:
        yield Bar(progress, name, total, done)


@contextmanager
def bars() -> Iterator[Bars]:
    """Show the progress of several pieces of work, each as :func:`bar` does."""
    with _display() as progress:
        yield Bars(progress)


@contextmanager
def _display() -> Iterator[Progress | None]:
    """Show Rich's display on a terminal; elsewhere there is none."""
    if not sys.stderr.isatty():
        yield None
        return
    # Only now, because exported models are used, and the GPU benchmark runs, where there is little more than they need.
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield None
        return

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress
