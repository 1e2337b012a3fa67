"""Downloads, from a server on this machine that breaks off, refuses and lies."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from anowild.data import download as module
from anowild.data.download import DATASETS, Item, fetch
from anowild.errors import UserError

CONTENT = np.random.default_rng(0).bytes(700_000)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` at every path."""

    content = CONTENT
    ranges = True  # does what a Range asks for
    send_length = True
    cut: int | None = None  # breaks off after that many bytes
    status: int | None = None  # an error to answer with
    asked: list[str | None]  # the Range of each request

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status:
            self.send_error(self.server.status)
            return
        content, start = self.server.content, 0
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.server.send_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cut])

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/set.bin"
    monkeypatch.setitem(DATASETS, "test", (Item(url, "set.bin", len(CONTENT), MD5),))
    monkeypatch.setitem(DATASETS, "unsized", (Item(url, "set.bin", None, MD5),))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["test", "unsized"])
def test_a_file_is_loaded_once(server: Server, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "new" / "sets"
    for _ in range(2):
        (path,) = fetch(name, folder)
        assert path == folder / "set.bin"
        assert path.read_bytes() == CONTENT
    assert server.asked == [None]
    assert files(folder) == ["set.bin"]


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin").write_bytes(CONTENT[:-1] + b"x")
    (path,) = fetch("test", tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["test", "unsized"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(
    server: Server, tmp_path: Path, name: str, ranges: bool
) -> None:
    server.ranges, server.cut = ranges, 300_000
    with pytest.raises(UserError, match=r"set\.bin: cannot be downloaded .*the same command again"):
        fetch(name, tmp_path)
    assert files(tmp_path) == ["set.bin.download"]
    assert (tmp_path / "set.bin.download").stat().st_size == 300_000
    server.cut = None
    (path,) = fetch(name, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]
    assert files(tmp_path) == ["set.bin"]


def test_without_a_length_a_cut_is_seen_by_the_known_size(server: Server, tmp_path: Path) -> None:
    server.send_length, server.cut = False, 300_000
    with pytest.raises(UserError, match="closed early"):
        fetch("test", tmp_path)
    server.cut = None
    assert fetch("test", tmp_path)[0].read_bytes() == CONTENT


def test_a_whole_download_is_only_moved(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.download").write_bytes(CONTENT)
    assert fetch("unsized", tmp_path)[0].read_bytes() == CONTENT
    assert not server.asked


@pytest.mark.parametrize("name", ["test", "unsized"])
def test_a_download_that_is_too_long_begins_anew(server: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / "set.bin.download").write_bytes(CONTENT + b"x")
    assert fetch(name, tmp_path)[0].read_bytes() == CONTENT
    assert server.asked[-1] is None


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match=r"wrong checksum \(.*by hand into"):
        fetch("test", tmp_path)
    assert files(tmp_path) == []


def test_a_start_that_does_not_fit_is_found_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.download").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match="wrong checksum"):
        fetch("test", tmp_path)
    assert fetch("test", tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_server_that_refuses_is_told(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(UserError, match=rf"the server refuses \({status} .*by hand into"):
        fetch("test", tmp_path)


def test_no_connection_is_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, but nobody listens
        url = f"http://127.0.0.1:{free.getsockname()[1]}/set.bin"
        monkeypatch.setitem(DATASETS, "test", (Item(url, "set.bin", None, MD5),))
        with pytest.raises(UserError, match=r"\(Connection refused\).*by hand into"):
            fetch("test", tmp_path)


def test_no_name_server_and_silence_are_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name(*arguments: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", no_name)
        with pytest.raises(UserError, match=r"\(Name or service not known\).*by hand into"):
            fetch("test", tmp_path)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/set.bin"
        monkeypatch.setitem(DATASETS, "test", (Item(url, "set.bin", None, MD5),))
        monkeypatch.setattr(module, "_TIMEOUT", 0.05)
        with pytest.raises(UserError, match=r"\(timed out\).*by hand into"):
            fetch("test", tmp_path)


def test_a_full_disk_is_told_and_what_was_loaded_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(self: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        file = real(self, mode, *arguments, **more)
        return Full(file) if mode in ("wb", "ab") else file

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> int:
            if self.file.tell() > 400_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(UserError, match="the disk is full; free some space"):
            fetch("test", tmp_path)
    have = (tmp_path / "set.bin.download").stat().st_size
    assert have > 400_000
    assert fetch("test", tmp_path)[0].read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={have}-"


def test_a_folder_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be created"):
        fetch("test", tmp_path / "file" / "sets")
    (tmp_path / "set.bin.download").mkdir()
    with pytest.raises(UserError, match=r"set\.bin\.download: cannot be written"):
        fetch("test", tmp_path)


def test_the_table() -> None:
    with pytest.raises(UserError, match="choose one of cifar10, cifar100, mnist, fashion-mnist"):
        fetch("imagenet", Path("x"))
    assert [len(items) for items in DATASETS.values()] == [1, 1, 4, 4]
    for item in (item for items in DATASETS.values() for item in items):
        assert item.url.endswith(item.name)
        assert len(item.md5) == 32
