"""What long work prints where there is no terminal."""

from __future__ import annotations

import pytest

from anowild.progress import Bar, bar, bars


def test_a_log_file_gets_plain_lines_whatever_is_said_of_colors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as continuous integration and tox set it
    monkeypatch.setattr(Bar, "QUIET_SECONDS", 0.0)
    with bar("score", 10) as one:
        one.update(0, "begun")
        one.update(5, "half")
    with bars() as several:
        several.update("train", None, 3, "three")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "score: 0 of 10, begun"
    assert lines[1].startswith("score: 5 of 10, ")
    assert lines[1].endswith(" min left, half")
    assert lines[2:] == ["train: 3, three"]
