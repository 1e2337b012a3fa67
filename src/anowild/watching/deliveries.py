"""What is done for each flagged image: a command that is run, or JSON that is posted to an address.

What is to be done stands in the journal, and is taken out when it is done: so it is done at least once, also if the
process is killed in between, and memory does not grow with what waits. Scoring never waits for it.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from anowild.errors import UserError
from anowild.files import printable
from anowild.version import VERSION
from anowild.watching.journal import Flagged, Journal

log = logging.getLogger("anowild")

#: Seconds to wait for an answer; and between attempts at first, doubled each time, and at most.
ANSWER, FIRST_WAIT, LONGEST_WAIT = 10.0, 1.0, 60.0
#: Seconds that the end of a watch waits for what is still to be done, and between looks whether it is.
AT_END, NAP = 10.0, 0.1

#: Does what is to be done for an image; returns a clause that says what went wrong, None if nothing did.
Send = Callable[[Flagged], str | None]


class Deliveries:
    """Thread that does one kind of thing for all flagged images, in turn.

    Args:
        journal: that has what is to be done.
        kind: by which the journal knows it.
        send: does it.
        retry: whether what failed is tried again, after a growing pause.
    """

    def __init__(self, journal: Journal, kind: str, send: Send, retry: bool) -> None:
        self.journal, self.kind, self.send, self.retry = journal, kind, send, retry
        self._more, self._ending = threading.Event(), threading.Event()
        self._goes_on: Callable[[], bool] = lambda: True
        self._error: UserError | None = None
        self._thread = threading.Thread(target=self._work, name=f"anowild-{kind}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there may be more to do.

        Raises:
            UserError: the journal cannot be written.
        """
        if self._error is not None:
            raise self._error
        self._more.set()

    def finish(self, goes_on: Callable[[], bool]) -> None:
        """Do what is left, until something fails, and end.

        Args:
            goes_on: whether there is still time for it.
        """
        self._goes_on = goes_on
        self._ending.set()
        self._more.set()
        while self._thread.is_alive() and goes_on():
            self._thread.join(NAP)

    def _work(self) -> None:
        try:
            self._deliver()
        except UserError as error:
            self._error = error

    def _deliver(self) -> None:
        after = failures = 0
        while not self._ending.is_set() or self._goes_on():
            flagged = self.journal.next_delivery(self.kind, after)
            if flagged is None and after:
                after = 0  # those that failed, once more
                continue
            if flagged is None:
                if self._ending.is_set():
                    return
                self._more.wait()
                self._more.clear()
                continue
            problem = self.send(flagged)
            after = flagged.number
            if problem is not None and (not self.retry or not failures):
                later = "; it is tried again" if self.retry else ""
                log.warning("%s: %s%s", printable(flagged.path), problem, later)
            if problem is None or not self.retry:
                self.journal.delivered(self.kind, flagged.number)
                failures = 0
            elif self._ending.is_set():
                return
            else:
                self._ending.wait(min(FIRST_WAIT * 2**failures, LONGEST_WAIT))
                failures = min(failures + 1, 10)


class Command:
    """Runs a command with the path of a flagged image as its last argument.

    Args:
        text: the command, in words as a shell splits them; no shell runs it.
        seconds: after which it is killed, with all that it started.

    Raises:
        UserError: there is no such command.
    """

    def __init__(self, text: str, seconds: float) -> None:
        try:
            self.words = shlex.split(text)
        except ValueError as error:
            raise UserError(f"--run {text!r}: cannot be split into words ({error})") from error
        if not self.words or shutil.which(self.words[0]) is None:
            raise UserError(f"--run {text!r}: there is no such command; check its name or path")
        self.seconds = seconds

    def __call__(self, flagged: Flagged) -> str | None:
        """Run the command for an image."""
        facts = {
            "ANOWILD_IMAGE": flagged.path,
            "ANOWILD_SCORE": repr(flagged.score),
            "ANOWILD_WHY": flagged.why,
        }
        try:
            # In a session of its own: Ctrl-C does not reach it, and all that it started can be killed.
            process = subprocess.Popen(
                [*self.words, flagged.path],
                stdin=subprocess.DEVNULL, env={**os.environ, **facts}, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return f"--run: {self.words[0]} cannot be started ({error})"
        try:
            code = process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"--run: {self.words[0]} took more than {self.seconds:g} s and was killed"
        return f"--run: {self.words[0]} ended with exit code {code}" if code else None


class Webhook:
    """Posts facts of a flagged image, as JSON, to an address.

    Each post has an ``id`` of its own, which stays the same if it is sent again.

    Args:
        url: http or https.
        table: tells the table of scores from any other.
        limit: score from which images are flagged.

    Raises:
        UserError: the address is of another kind.
    """

    def __init__(self, url: str, table: str, limit: float) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            # A name and a password in front of the host are not sent, and would be shown in messages.
            usable = (
                parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
            )
            usable = usable and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise UserError("--post: is no address that begins with http:// or https:// and a host")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise UserError(
                f"--post {parts.scheme}://{parts.hostname}/...: has blanks or other characters that an address "
                "cannot have; write them as %20 and the like"
            )
        self.url, self.table, self.limit = url, table, limit
        #: For messages: the rest of an address often is a secret.
        self.host = f"{parts.scheme}://{parts.hostname}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, flagged: Flagged) -> str | None:
        """Post an image."""
        identity = f"{self.table}-{flagged.number}"
        value = {
            "id": identity,
            "image": printable(flagged.path),
            "page": int(flagged.part.strip("[]")) if flagged.part else None,
            "score": flagged.score,
            "limit": self.limit,
            "why": flagged.why,
            "time": flagged.time.isoformat(timespec="milliseconds"),
        }
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"anowild/{VERSION}",
            "Idempotency-Key": identity,
        }
        try:
            request = urllib.request.Request(self.url, json.dumps(value).encode(), headers)
            with self._opener.open(request, timeout=ANSWER):
                return None
        except urllib.error.HTTPError as error:
            error.close()
            return f"--post: {self.host} answered {error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            return f"--post: {self.host} cannot be reached ({reason})"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for a failure: following it would turn the post into a request without its data."""

    def redirect_request(self, *_: Any) -> None:
        return None
