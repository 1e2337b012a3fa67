"""Tables as spreadsheet programs write them, and tables that no spreadsheet program takes as formulas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anowild.data.spreadsheet import as_label, open_spreadsheet, write_spreadsheet
from anowild.errors import UserError

ROWS = [{"path": "a.png", "label": "0"}, {"path": "sub/b, c.png", "label": "1"}]
COMMAS = 'path,label\na.png,0\n"sub/b, c.png",1\n'
OTHERS = "path;label\na.png;0\nsub/b, c.png;1\n"


def read(path: Path, needed: tuple[str, ...] = ("path", "label")) -> list[dict[str, str]]:
    with open_spreadsheet(path, needed, "labels") as table:
        return list(table)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (COMMAS, "utf-8"),
        (COMMAS, "utf-8-sig"),
        (COMMAS, "utf-16"),
        (COMMAS, "utf-16-le"),
        (COMMAS, "utf-16-be"),
        (COMMAS.replace("\n", "\r\n"), "utf-8"),
        (COMMAS.replace("\n", "\r"), "utf-8"),
        (OTHERS, "utf-8-sig"),
        (OTHERS.replace(";", "\t"), "utf-16"),
        ("sep=;\n" + OTHERS, "utf-8"),
        ("\n \n" + COMMAS, "utf-8"),
        (COMMAS.replace("path,label", "Path, LABEL "), "utf-8"),
        (COMMAS.replace("path,label", '"PATH","Label"'), "utf-8"),
        (COMMAS + ",\n\n,,,\n", "utf-8"),
        (OTHERS.replace("0\n", "0;;\n"), "utf-8"),
        (COMMAS.replace('"', ""), "utf-8"),  # text with a comma and a blank, without quotes
    ],
)
def test_tables_of_other_programs_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding))
    assert read(path) == ROWS


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"image|class\na.png|0\n", "needs one column each of path, label.*'image|class'"),
        (b"", "its first line is ''"),
        (b"path,label,Label\na,0,1\n", "needs one column each"),
        (
            b"path,label\na.png,0\nb,c.png,1\n",
            "line 3: has more cells than the header 'path,label', which has 2; put text",
        ),
        (b"path, label\nb, c.png, 1\n", "line 2: has more cells than the header 'path, label'"),
        ("path,label\n".encode("utf-16") + b"\x00", "cannot be read as labels"),
        (b'path,label\n"' + b"a" * 200_000 + b'",1\n', "cannot be read as labels.*field larger"),
    ],
)
def test_other_tables_are_refused_with_what_was_found(
    tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said):
        read(path)


def test_missing_file_and_line_numbers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as labels"):
        read(tmp_path / "absent.csv")
    path = tmp_path / "table.csv"
    path.write_text("sep=,\n\npath,label\na,0\n\nb\n")
    with open_spreadsheet(path, ("path", "label"), "labels") as table:
        assert [(row["path"], row["label"], table.line) for row in table] == [
            ("a", "0", 4), ("b", "", 6),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"), [("1,5\t2", 1.5), ("-1.25e3\tx", -1250.0), ("1\tx", 1.0)]
)
def test_decimal_mark_may_be_a_comma(tmp_path: Path, text: str, number: float) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(f"score\tother\n{text}\n")
    with open_spreadsheet(path, ("score",), "scores") as table:
        assert [table.number(row["score"]) for row in table] == [number]


def test_labels_that_are_whole_numbers() -> None:
    given_labels = ["1.0", " 0.00 ", "1,0", "-1.0", "1", "good", "1.5", "1.0.0", ""]
    assert [as_label(text) for text in given_labels] == [
        "1", "0", "1", "-1", "1", "good", "1.5", "1.0.0", "",
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'=", "''@"])
def test_no_text_starts_a_formula(start: str) -> None:
    text = io.StringIO(newline="")
    write_spreadsheet(text, ["path", "score"], [[f"{start}cmd", -1.5], ["-2.5", "-1e-7"]])
    rows = list(csv.reader(io.StringIO(text.getvalue(), newline="")))
    assert rows[1:] == [[f"'{start}cmd", "-1.5"], ["-2.5", "-1e-7"]]


@given(st.lists(st.tuples(st.text("'=+-@\t\r\n;,\"1.ab", min_size=1), st.integers())))
def test_written_tables_are_read_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        write_spreadsheet(file, ["path", "label"], rows)
    assert [(row["path"], int(row["label"])) for row in read(path)] == rows
