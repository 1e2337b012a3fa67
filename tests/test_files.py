"""Files that are no regular files are refused at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from anowild.errors import UserError
from anowild.files import check_regular, open_regular, read_json


def test_open_regular_reads_a_file_and_a_link_to_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"


def test_open_regular_never_waits_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        check_regular(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be read \(it is no regular file"):
        read_json(tmp_path / "pipe")


def test_open_regular_refuses_devices_folders_and_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "zero", tmp_path):
        with pytest.raises(OSError, match="no regular file"):
            check_regular(path)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        with pytest.raises(OSError, match="socket"):
            check_regular("socket")
