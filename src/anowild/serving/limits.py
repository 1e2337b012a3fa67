"""Limits of the service, and what refuses the requests beyond them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from anowild.errors import UserError

MIB = 1 << 20


@dataclass(frozen=True)
class ServiceLimits:
    """What the service takes on, at most.

    Raises:
        UserError: a limit is not above 0, or that on all bodies below that on one.
    """

    queue: int = 256  # images that wait or are being scored: two of the views' largest batches
    images: int = 1000  # images in a request: files, members of zips and pages together
    body: int = 64 * MIB  # bytes of a request
    bodies: int = 512 * MIB  # bytes of all requests that are being answered
    unpacked: int = 256 * MIB  # bytes that the zips of a request unpack to
    pixels: int = 50_000_000  # of an image
    seconds: float = 60.0  # from the header of a request to its answer
    connections: int = 500

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise UserError(f"the limit on {name} is {value}; it has to be above 0")
        if self.bodies < self.body:
            raise UserError(
                f"the limit on bodies, {self.bodies / MIB:g} MiB of all requests together, is below that on body, "
                f"{self.body / MIB:g} MiB of one, which would be refused for ever; raise it, or lower body"
            )


class Refusal(HTTPException):
    """A request that is refused: one sentence for the client, one word for the metrics.

    Args:
        status: of the answer.
        reason: one word.
        sentence: what is wrong and what to do.
        retry: seconds after which the same request may be accepted.
    """

    def __init__(self, status: int, reason: str, sentence: str, retry: int | None = None) -> None:
        super().__init__(status, sentence, None if retry is None else {"Retry-After": str(retry)})
        self.reason = reason


class Admission:
    """Counts what is accepted and not answered yet, and refuses more. For the event loop's thread alone.

    Args:
        limits: on images and bytes.
        pace: returns the seconds that an image takes at present.
    """

    def __init__(self, limits: ServiceLimits, pace: Callable[[], float]) -> None:
        self.limits = limits
        self._pace = pace
        self.draining = False  # whether the service is being stopped, and accepts nothing more
        self.requests, self.images, self.bytes = 0, 0, 0

    @property
    def full(self) -> bool:
        """Whether a request would be refused now."""
        return self.images >= self.limits.queue

    @contextmanager
    def accepted(self) -> Iterator[Ticket]:
        """Accept a request while it is being answered. Its images count from when its body has come.

        Raises:
            Refusal: too many images wait, or the service is being stopped.
        """
        if self.draining:
            raise Refusal(503, "stopping", "The service is being stopped.", 5)
        if self.full:
            raise self.too_many()
        ticket = Ticket(self)
        self.requests += 1
        try:
            yield ticket
        finally:
            self.requests -= 1
            self.images -= ticket.images
            self.bytes -= ticket.bytes

    def too_many(self) -> Refusal:
        """Return the refusal of a full queue, with the seconds until it is empty."""
        wait = max(1, math.ceil(self.images * self._pace()))
        return Refusal(429, "full", f"Too many images wait; try again in {wait} s.", wait)


class Ticket:
    """What one accepted request takes up."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.images, self.bytes = 0, 0
        self.complete = False  # whether the whole body has come

    def hold(self, size: int) -> None:
        """Take up ``size`` more bytes.

        Raises:
            Refusal: the bodies of all requests are too large together.
        """
        self.bytes += size
        self._admission.bytes += size
        if self._admission.bytes > self._admission.limits.bodies:
            raise Refusal(
                429, "full", "Other requests take up all memory for bodies; try again in 1 s.", 1
            )

    def expect(self, images: int) -> None:
        """Take up so many images. A single request may exceed the queue, unless others fill it.

        Raises:
            Refusal: too many images of other requests wait.
        """
        if self._admission.full:
            raise self._admission.too_many()
        self._admission.images += images
        self.images = images
