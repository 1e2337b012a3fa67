"""A command, and posts to an address, for each flagged image: at least once, and scoring never waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.watching import deliveries
from anowild.watching.journal import Flagged
from tests.conftest import wait_until
from tests.watching.conftest import LIMIT, Watched, terminate


class Receiver:
    """A stand-in for a receiver of posts, which answers with the codes of ``answers``, then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[dict[str, Any]] = []  # what was taken
        self.refused = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Idempotency-Key"] == value["id"]
                code = receiver.answers.pop(0) if receiver.answers else 200
                if code == 200:
                    receiver.got.append(value)
                else:
                    receiver.refused += 1
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "FIRST_WAIT", 0.01)


def flagged(watched: Watched) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in watched.rows() if row["odd"]}


def test_a_receiver_that_fails_at_first_gets_each_flagged_image(
    watched: Watched, digits: Array, receiver: Receiver
) -> None:
    receiver.answers = [500, 503, 302, 429]
    watched.put(255 - digits[:5])
    watched.put(digits[5:10], 5)
    process = watched.start(post=receiver.url)
    wait_until(lambda: receiver.refused == 4 and len(receiver.got) >= 5)
    assert terminate(process) == 0
    expected = flagged(watched)
    assert {value["image"] for value in receiver.got} == expected.keys()
    assert len({value["id"] for value in receiver.got}) == len(expected)
    for value in receiver.got:
        row = expected[value["image"]]
        assert value["score"] == row["score"]
        assert (value["why"], value["limit"], value["page"]) == (row["why"], LIMIT, None)
    said = watched.said.read_text()
    assert said.count("answered 500") == 1
    assert said.count("answered 302") == 0  # one warning for a series
    assert "secret" not in said


def test_what_was_not_delivered_is_sent_after_a_restart(
    watched: Watched, digits: Array, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    watched.put(255 - digits[:3])
    summary = watched.once(post="http://127.0.0.1:9/")
    assert summary.undelivered == {"post": summary.flagged}
    assert summary.scored == 3
    assert "cannot be reached" in caplog.text
    assert watched.once().undelivered == {}  # nothing is sent where nobody asks for it
    assert watched.once(post=receiver.url).undelivered == {"post": 0}
    assert {value["image"] for value in receiver.got} == flagged(watched).keys()
    assert len(receiver.got) == summary.flagged
    assert watched.once(post=receiver.url).undelivered == {"post": 0}
    assert len(receiver.got) == summary.flagged


def test_one_that_is_always_refused_does_not_hold_up_the_others(
    watched: Watched, digits: Array, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = deliveries.Webhook.__call__

    def picky(self: deliveries.Webhook, image: Flagged) -> str | None:
        return "is not liked" if image.number == 1 else call(self, image)

    monkeypatch.setattr(deliveries.Webhook, "__call__", picky)
    watched.put(255 - digits[:4])
    process = watched.start(post=receiver.url)
    wait_until(lambda: len(receiver.got) >= 3)
    assert terminate(process) == 0
    missing = flagged(watched).keys() - {value["image"] for value in receiver.got}
    assert missing == {watched.rows()[0]["path"]}


def test_a_command_gets_the_path_and_facts_of_a_flagged_image(
    watched: Watched, digits: Array, tmp_path: Path
) -> None:
    watched.folder = watched.folder.rename(tmp_path / "-my camera; echo")
    watched.put(255 - digits[:2])
    watched.put(digits[2:4], 2)
    log = tmp_path / "log.txt"
    text = f"""sh -c 'printf "%s|%s|%s|%s\\n" "$0" "$ANOWILD_IMAGE" "$ANOWILD_SCORE" "$ANOWILD_WHY" >> {log}'"""
    watched.once(run=text)
    lines = [line.split("|") for line in log.read_text().splitlines()]
    expected = flagged(watched)
    assert [line[0] for line in lines] == [line[1] for line in lines] == list(expected)
    assert [float(line[2]) for line in lines] == [row["score"] for row in expected.values()]
    assert [line[3] for line in lines] == [row["why"] for row in expected.values()]
    watched.once(run=text)
    assert len(log.read_text().splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ("false", "false ended with exit code 1"),
        ("sh -c 'sleep 1000 & sleep 1000'", "took more than 0.2 s and was killed"),
        ("{script}", "cannot be started"),
    ],
)
def test_a_command_that_fails_is_a_warning(
    watched: Watched,
    digits: Array,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    run: str,
    sentence: str,
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter")
    script.chmod(0o755)
    watched.put(255 - digits[:2])
    summary = watched.once(run=run.format(script=script), run_seconds=0.2)
    assert summary.scored == 2
    assert caplog.text.count(sentence) == summary.flagged > 0
    assert summary.undelivered == {"run": 0}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"run": "no-such-command x"}, "there is no such command"),
        ({"run": ""}, "there is no such command"),
        ({"run": " "}, "there is no such command"),
        ({"run": "echo 'x"}, "cannot be split"),
        ({"post": "ftp://example.com"}, "http:// or https://"),
        ({"post": "file:///etc/passwd"}, "http:// or https://"),
        ({"post": "http://"}, "http:// or https://"),
        ({"post": "http://[x"}, "http:// or https://"),
        ({"post": "http://me:secret@x/"}, "and a host"),
        ({"post": "http://x:99999/"}, "http:// or https://"),
        ({"post": "htps://x/SECRET"}, "^--post: is no address"),
        ({"post": "http://x/services/SECRET TOKEN"}, r"^--post http://x/\.\.\.: has blanks"),
        ({"post": "http://x/caf\xe9/SECRET"}, r"^--post http://x/\.\.\.: has blanks"),
        ({"post": "http://x/\x7fSECRET"}, r"^--post http://x/\.\.\.: has blanks"),
    ],
)
def test_wrong_commands_and_addresses_are_refused(
    watched: Watched, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        watched.once(**options)
