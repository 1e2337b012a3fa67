"""The review server under connections that wait, bodies that break off, and failures that repeat."""

from __future__ import annotations

import http.client
import json
import logging
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anowild.http import limits
from anowild.http.limits import OneLine, one_line_a_minute
from anowild.reviewing.app import Review
from anowild.reviewing.serve import Server
from tests.conftest import PATIENCE, wait_until


@contextmanager
def running(review: Review) -> Iterator[str]:
    """Serve a review from a thread of this process; yield the address of its page."""
    with Server("127.0.0.1", 0) as server, one_line_a_minute():
        run = server.of(review)
        thread = threading.Thread(target=run.run, args=[[server.listening]], daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            run.should_exit = True
            thread.join()


def idle_connections(
    url: str, count: int, sent: bytes = b"GET / HTTP/1.1\r\nHost: x"
) -> list[socket.socket]:
    address = urlsplit(url)
    found = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", address.port or 0), timeout=PATIENCE)
        connection.sendall(sent)
        found.append(connection)
    return found


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1000) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


class Reviewer:
    """A browser of a reviewer."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=PATIENCE)
        self.connection.request("GET", f"/?{address.query}")
        answer = self.connection.getresponse()
        self.cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        secret = re.search(r'name="secret" content="([^"]+)"', answer.read().decode())
        assert secret
        self.secret = secret[1]

    def headers(self) -> dict[str, str]:
        return {"Cookie": self.cookie, "x-anowild": self.secret}

    def mark(self, number: int) -> float:
        """Mark an image on a new connection; return the seconds that it took."""
        self.connection.close()
        begun = time.monotonic()
        body = {"images": [number], "verdict": "keep", "reviewer": "Ada"}
        self.connection.request("POST", "/api/mark", json.dumps(body), self.headers())
        answer = self.connection.getresponse()
        assert json.loads(answer.read())["own"] == ["keep"]
        return time.monotonic() - begun


def test_idle_connections_make_room_for_a_reviewer(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anowild.reviewing.serve.most_connections", lambda: 12)
    with running(review) as url, ExitStack() as stack:
        reviewer = Reviewer(url)
        idle = idle_connections(url, 300)
        for connection in idle:
            stack.callback(connection.close)
        reviewer.mark(3)
        wait_until(lambda: sum(not is_closed(connection) for connection in idle) <= 12)
        reviewer.mark(4)
    assert len(review.store.marks()) == 2


@pytest.mark.parametrize("part", ["nothing", "header", "second header", "body"])
def test_a_request_that_never_comes_is_given_up(
    review: Review, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    with running(review) as url:
        reviewer = Reviewer(url)
        lines = [f"{name}: {value}" for name, value in reviewer.headers().items()]
        head = "\r\n".join([f"Host: {urlsplit(url).netloc}", *lines, ""])
        sent = {
            "nothing": "",
            "header": f"GET /api/info HTTP/1.1\r\n{head}",
            "second header": f"GET /api/status HTTP/1.1\r\n{head}\r\n",
            "body": f"POST /api/mark HTTP/1.1\r\n{head}Content-Length: 100\r\n\r\n{{",
        }[part]
        (connection,) = idle_connections(url, 1, sent.encode())
        if part == "second header":
            assert connection.recv(5000).startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET /api")
        wait_until(lambda: is_closed(connection))
        connection.close()
        reviewer.mark(3)


def test_answers_that_nobody_reads_are_given_up(
    review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_SECONDS", 0.3)
    with running(review) as url:
        reviewer = Reviewer(url)
        lines = [f"{name}: {value}" for name, value in reviewer.headers().items()]
        head = "\r\n".join([f"Host: {urlsplit(url).netloc}", *lines, "", ""])
        asked = f"GET /static/grid.js HTTP/1.1\r\n{head}".encode()
        connection = socket.create_connection(("127.0.0.1", urlsplit(url).port or 0))
        connection.setblocking(False)

        def is_given_up() -> bool:
            try:
                connection.send(asked * 100)
            except BlockingIOError:
                return False
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        wait_until(is_given_up)
        connection.close()
        reviewer.mark(3)


def test_bodies_that_break_off_are_no_failures(
    review: Review, caplog: pytest.LogCaptureFixture
) -> None:
    with running(review) as url:
        reviewer = Reviewer(url)
        lines = [f"{name}: {value}" for name, value in reviewer.headers().items()]
        head = "\r\n".join(["POST /api/mark HTTP/1.1", f"Host: {urlsplit(url).netloc}", *lines])
        sent = f"{head}\r\nContent-Length: 100\r\n\r\n{{"
        for connection in idle_connections(url, 20, sent.encode()):
            connection.close()
        reviewer.mark(3)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def test_log_has_one_line_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    logger = logging.getLogger("uvicorn.error")
    with one_line_a_minute():
        for now[0] in range(130):
            try:
                raise OSError("Too many\nopen files")
            except OSError:
                logger.exception("It %s\nand more", "failed")
    logger.warning("after")
    said = [record.getMessage() for record in caplog.records]
    error = "(OSError('Too many\\nopen files'))"
    assert said == [
        f"It failed {error}",
        f"It failed {error} (and 59 more since the last line)",
        f"It failed {error} (and 59 more since the last line)",
        "after",
    ]
    assert all(record.exc_info is None for record in caplog.records)
    assert OneLine() not in logger.filters


@pytest.mark.slow
def test_few_descriptors_and_many_idle_connections(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "anowild",
        "review",
        model_folder,
        images,
        "-o",
        tmp_path / "r",
    ]
    log = tmp_path / "log"
    with log.open("wb") as errors, ExitStack() as stack:
        server = subprocess.Popen(
            [*map(str, command), "--no-browser", "--port", "0", "--threads", "1"],
            stdout=subprocess.PIPE, stderr=errors, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        )  # fmt: skip
        stack.callback(server.wait)
        stack.callback(server.kill)
        assert server.stdout is not None
        said = ""
        while "open http" not in said:
            said = server.stdout.readline()
            assert said, log.read_text()
        url = said.rpartition("open ")[2].strip()
        reviewer = Reviewer(url)
        for connection in idle_connections(url, 300):
            stack.callback(connection.close)
        assert min(reviewer.mark(number) for number in range(3)) < 1
        for connection in idle_connections(url, 300, b""):
            stack.callback(connection.close)
        assert min(reviewer.mark(number) for number in range(3)) < 1
    assert log.stat().st_size < 10_000
