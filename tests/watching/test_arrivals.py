"""Which files of a folder are whole, and how they are found again without asking for each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anowild.errors import UserError
from anowild.watching import arrivals as module
from anowild.watching.arrivals import Arrival, Arrivals, State


def of(root: Path, patience: float = 0.0) -> Arrivals:
    return Arrivals(root, lambda path, state: False, patience)


def names(found: list[Arrival]) -> list[str]:
    return [arrival.path.name for arrival in found]


def settle(arrivals: Arrivals) -> list[str]:
    """Look twice, and take what is whole for recorded."""
    arrivals.look()
    found = arrivals.look_again()
    for arrival in found:
        arrivals.settle(arrival)
    return names(found)


def test_two_looks_have_to_find_the_same(tmp_path: Path) -> None:
    arrivals, path = of(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"12")
    assert arrivals.look() == []
    path.write_bytes(b"1234")
    assert arrivals.look() == []
    os.utime(path, ns=(0, 5))
    assert arrivals.look_again() == []
    (found,) = arrivals.look_again()
    assert found[:2] == (path, State(4, 5))
    assert arrivals.waiting == 1
    arrivals.settle(found)
    assert arrivals.waiting == 0
    assert arrivals.look() == arrivals.look() == []


def test_the_oldest_come_first(tmp_path: Path) -> None:
    for name, time in (("a.png", 3), ("b.png", 1), ("c.png", 3)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(0, time))
    assert settle(of(tmp_path)) == ["b.png", "a.png", "c.png"]


def test_files_of_earlier_runs_are_known(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    arrivals = Arrivals(tmp_path, lambda path, state: path.name == "a.png", 0.0)
    assert settle(arrivals) == ["b.png"]


@pytest.mark.parametrize("root", ["", "."])
def test_quick_looks_ask_for_nothing_about_recorded_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    for name in ("a.png", "below/b.png"):
        (tmp_path / name).touch()
    arrivals = of(Path(root or tmp_path))
    assert settle(arrivals) == ["a.png", "b.png"]
    asked, look_up = [], State.of

    def ask(path: Path) -> tuple[State, int]:
        asked.append(path)
        return look_up(path)

    monkeypatch.setattr(State, "of", ask)
    (tmp_path / "c.png").touch()
    arrivals.look()
    assert [path.name for path in asked] == ["c.png"]


def test_a_file_moved_into_the_place_of_another_is_found_at_once(tmp_path: Path) -> None:
    arrivals, path = of(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    settle(arrivals)
    (tmp_path / "new").write_bytes(b"2")
    (tmp_path / "new").replace(path)
    assert settle(arrivals) == ["a.png"]


def test_a_file_written_over_in_place_is_found_by_a_full_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals, path = of(tmp_path), tmp_path / "a.png"
    path.write_bytes(b"1")
    settle(arrivals)
    path.write_bytes(b"22")
    assert settle(arrivals) == []
    arrivals._full_due = 0.0
    arrivals.look()
    # A quick look, while it waits, does not forget it.
    assert names(arrivals.look()) == ["a.png"]


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    arrivals, path = of(tmp_path), tmp_path / "a.png"
    path.touch()
    settle(arrivals)
    (tmp_path / "b.png").touch()
    arrivals.look()
    for name in "ab":
        (tmp_path / f"{name}.png").unlink()
    assert arrivals.look_again() == []
    assert arrivals.waiting == 0
    arrivals._full_due = 0.0
    arrivals.look()
    assert not arrivals._settled


def test_a_damaged_file_is_tried_again_after_a_while_and_at_once_if_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("anowild.watching.arrivals.time.monotonic", lambda: clock[0])
    arrivals, path = of(tmp_path, patience=10.0), tmp_path / "a.png"
    path.touch()
    arrivals.look()
    (found,) = arrivals.look_again()
    assert not found.tried
    arrivals.try_later(found)
    clock[0] += 9.0
    assert arrivals.look() == []
    clock[0] += 1.0
    (found,) = arrivals.look()
    assert found.tried
    path.write_bytes(b"more")
    arrivals.look()
    (found,) = arrivals.look()
    assert not found.tried


def test_pauses_grow_with_the_time_that_a_look_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100, 10**6))
    monkeypatch.setattr("anowild.watching.arrivals.time.monotonic", lambda: float(next(clock)))
    arrivals = of(tmp_path)
    arrivals.look()
    assert arrivals.pause == 0.0  # full looks have a pace of their own
    assert arrivals._full_due == 100 + module.FULL_EVERY
    arrivals.look()
    assert arrivals.pause == 2 / module.SHARE_OF_LOOKS


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    arrivals = of(tmp_path / "gone")
    with pytest.raises(UserError, match="gone: cannot be read"):
        arrivals.look()
