"""The command `anowild serve`: a process, its address and token, and how it stops."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anowild.errors import UserError
from anowild.serving import serve
from anowild.serving.limits import ServiceLimits
from tests.conftest import PATIENCE, Run, wait_until


class Served:
    """A service in a process of its own."""

    def __init__(self, model: Path, *options: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != serve.TOKEN}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "anowild", "serve", str(model), "--port", "0", "--threads", "1", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = ""
        while "Ctrl-C" not in self.said:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line
        found = re.search(r":(\d+)/score", self.said)
        assert found
        self.port = int(found[1])

    def score(self, image: bytes, **headers: str) -> tuple[int, bytes]:
        """Send one image on a connection of its own; return status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", "/score", image, {"content-type": "image/png", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Stop the process by a signal; return what it said since it was ready."""
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, said
        return str(said)


@contextmanager
def served(model: Path, *options: str) -> Iterator[Served]:
    found = Served(model, *options)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def test_sigterm_under_load_loses_no_accepted_request(
    model_folder: Path, pngs: list[bytes]
) -> None:
    """Clients ask until they are refused because the service stops; the service counts what it scored."""
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def client(number: int, service: Served) -> None:
        at = number
        while True:
            at += 1
            try:
                status, body = service.score(pngs[at % len(pngs)])
                value = json.loads(body)  # it has come whole
                found = str(status)
                assert ("detail" in value) == (status != 200)
            except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
                found = "refused"  # it was never accepted, as the count of images shows
            except http.client.RemoteDisconnected:
                found = "refused"
            with lock:
                answers[found] += 1
            if found in ("503", "refused"):
                return
            if found == "429":
                time.sleep(0.01)

    with served(model_folder, "--queue", "8") as service:
        clients = [
            threading.Thread(target=client, args=(number, service), daemon=True)
            for number in range(16)
        ]
        for one in clients:
            one.start()
        wait_until(lambda: answers["200"] > 50 and answers["429"], service.process)
        said = service.stop()
        for one in clients:
            one.join(PATIENCE)
    assert set(answers) <= {"200", "429", "503", "refused"}
    assert answers["503"]
    assert f"stopped; {answers['200']} images were scored" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_ctrl_c_stops_and_the_token_is_required(model_folder: Path, pngs: list[bytes]) -> None:
    with served(model_folder, "--host", "0.0.0.0") as service:
        found = re.search(r"token, .*: (\S{32})$", service.said, re.MULTILINE)
        assert found
        assert service.score(pngs[0])[0] == 401
        assert service.score(pngs[0], authorization=f"Bearer {found[1]}")[0] == 200
        assert "stopped; 1 images were scored" in service.stop(signal.SIGINT)


def test_port_in_use_is_one_sentence(model_folder: Path, anowild: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = anowild("serve", model_folder, "--port", port, "--threads", "1")
    assert code == 1
    assert err == (
        f"anowild: cannot listen on 127.0.0.1, port {port} (Address already in use); give another port with "
        "--port, or 0 for any free port\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--queue", "0"), "the limit on queue is 0; it has to be above 0"),
        (("--seconds", "nan"), "the limit on seconds is nan"),
        (("--threshold", "high"), "--threshold takes a score"),
        (("--threshold", "saved"), "no limit is kept with this model"),
    ],
)
def test_wrong_options_are_sentences(
    model_folder: Path, anowild: Run, options: tuple[str, ...], said: str
) -> None:
    code, _, err = anowild("serve", model_folder, "--threads", "1", *options)
    assert code == 1
    assert said in err


def test_missing_library_says_what_to_install(
    model_folder: Path, anowild: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, _, err = anowild("serve", model_folder)
    assert code == 1
    assert "services need prometheus_client: pip install 'anowild[serve]'" in err


@pytest.mark.parametrize("token", ["", "short", "with blanks in it", "ä" * 20])
def test_weak_token_is_refused(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv(serve.TOKEN, token)
    with pytest.raises(UserError, match="ANOWILD_TOKEN: a token has 16"):
        serve._token("0.0.0.0")


def test_limits_have_to_be_above_zero() -> None:
    with pytest.raises(UserError, match="the limit on pixels is -1"):
        ServiceLimits(pixels=-1)
    with pytest.raises(UserError, match=r"limit on bodies, 1 MiB .* is below that on body, 2 MiB"):
        ServiceLimits(body=2 << 20, bodies=1 << 20)


@pytest.mark.parametrize("size", ["inf", "nan"])
def test_sizes_that_are_no_numbers_are_told(anowild: Run, tmp_path: Path, size: str) -> None:
    code, _, err = anowild("serve", tmp_path, "--bodies", size)
    assert code == 1
    assert f"--bodies {size}: give a number of MiB above 0" in err
