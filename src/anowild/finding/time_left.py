"""How much of a job of several parts is done, and how long the rest will take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

#: Expected seconds of the parts of a job by the names under which they report: of the parts that run side by
#: side, after those before them.
Plan = Sequence[Mapping[str, float]]


def duration(minutes: float) -> str:
    """Return an expected time in words, rounded up."""
    seconds = 60 * minutes
    if seconds <= 55:
        return f"about {max(5, 5 * math.ceil(seconds / 5))} seconds"
    minutes = math.ceil(minutes)
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"


class TimeLeft:
    """Progress of a job, by the expected seconds of its parts.

    Args:
        plan: of the job. Parts that it does not name are not counted.
        clock: seconds that pass.
    """

    #: Seconds of work before a time is told, and those over which its rate is averaged.
    FEWEST, MEMORY = 20.0, 90.0

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._clock = plan, clock
        self._all = sum(sum(parts.values()) for parts in plan)
        self._done: dict[str, float] = {}  # expected seconds by part
        #: Share of the work that is done, which never falls; None: nothing is known of it.
        self.fraction: float | None = 0.0 if self._all > 0 else None
        self._started: float | None = None
        self._updated = 0.0
        self._worked = self._spent = 0.0  # expected and real seconds, those long ago counting less

    def update(self, name: str, share: float) -> None:
        """Note the share of a part that is done."""
        number = next((i for i, parts in enumerate(self._plan) if name in parts), None)
        if number is None or self.fraction is None:
            return
        now = self._clock()
        if self._started is None:
            self._started = self._updated = now
        for parts in self._plan[:number]:
            self._done |= parts  # what did not report its end is at its end
        expected = self._plan[number][name]
        done = expected * min(1.0, max(0.0, share))
        before = self._done.get(
            name, done
        )  # what is done at the beginning was done by an earlier run
        self._done[name] = max(before, done)
        kept = math.exp(-(now - self._updated) / self.MEMORY)
        self._worked = self._worked * kept + self._done[name] - before
        self._spent = self._spent * kept + now - self._updated
        self._updated = now
        self.fraction = max(self.fraction, min(1.0, sum(self._done.values()) / self._all))

    def minutes(self) -> float | None:
        """Return how long the rest will take; None: too little is known."""
        if self._started is None or self._updated - self._started < self.FEWEST or not self._worked:
            return None
        return (self._all - sum(self._done.values())) * self._spent / self._worked / 60

    def words(self) -> str:
        """Return how long the rest will take, as text: empty if too little is known.

        The last steps are those that no part of the plan reports.
        """
        minutes = self.minutes()
        if minutes is None:
            return ""
        if minutes <= 0:
            return "the last steps"
        if minutes < 1:
            return "under a minute left"
        return f"about {minutes:.0f} minute{'s' if round(minutes) > 1 else ''} left"
