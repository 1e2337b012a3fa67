"""Files that are no regular files are refused at once; what killed processes leave is removed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anowild.errors import UserError
from anowild.files import (
    atomic_write,
    check_regular,
    for_terminal,
    open_regular,
    part_of,
    read_json,
    remove_leftovers,
    write_text,
)


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


def ended_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def part(path: Path, process: int) -> Path:
    """Return the name under which a process of this machine writes ``path``."""
    own = part_of(path)
    return own.with_name(own.name.replace(f"-{os.getpid()}.", f"-{process}."))


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    dead = ended_process()
    gone = [part(tmp_path / name, dead) for name in ("scores.csv", "other.png", "cleaned")]
    for path in gone[:2]:
        path.write_text("half")
    (gone[2] / "images").mkdir(parents=True)
    (gone[2] / "images" / "copy.png").write_text("copy")
    running = part(tmp_path / "scores.csv", os.getppid())
    elsewhere = tmp_path / f"scores.csv.00000000-{dead}.part"  # of another machine
    theirs = [tmp_path / name for name in (f"film.{dead}.part", "film.part", "notes.txt")]
    for path in (running, elsewhere, *theirs):
        path.write_text("half")
    (tmp_path / "new").mkdir()
    for path in (*gone[:2], running):
        path.rename(tmp_path / "new" / path.name)
    write_text(tmp_path / "new" / "anything.txt", "whole")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {running.name, "anything.txt"}
    remove_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "new",
        elsewhere.name,
        *(p.name for p in theirs),
    }


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_wants(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.unlink()
            temporary.write_text("text")
            temporary.chmod(0o777)  # as some libraries do
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_names_do_not_control_a_terminal() -> None:
    name = "bad\x1b[31m\nFAKE: fine\x1b]0;t\x07\u202egnp\x9b1m\udcff.png"
    shown = "bad\\x1b[31m\\nFAKE: fine\\x1b]0;t\\x07\\u202egnp\\x9b1m\\xff.png"
    assert for_terminal(name) == shown
    assert for_terminal("Bär 熊 🐻.png") == "Bär 熊 🐻.png"
