"""`find` on a camera's folder of photographs, ten of which are planted: each is found, with a reason."""

from __future__ import annotations

import csv

import pytest

from anowild.finding.job import SCORES, Job
from anowild.reviewing.ranking import Ranking
from anowild.scoring.explain import one_line
from bench.photographs import make
from tests.conftest import tiny_settings

#: Words of the column `findings`, by the kind of a planted photograph; the page is no finding.
WORDS = {
    "blurred": "blurred",
    "dark": "dark",
    "black": "dark",
    "overexposed": "overexposed",
    "turned": "odd size",
    "duplicate": "duplicate of ",
    "near duplicate": "near duplicate of ",
}
#: What is said of a planted photograph, by its kind; any of these words.
NAMED = {
    "blurred": ("blurred",),
    "dark": ("dark",),
    "black": ("black", "dark"),
    "overexposed": ("white", "overexposed"),
    "turned": ("upright",),
    "duplicate": ("equal to",),
    "near duplicate": ("hardly different",),
    "page": ("sharper", "unlike", "less like"),
}


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ranking, dict[str, str]]:
    folder = tmp_path_factory.mktemp("photographs")
    planted = make(folder / "photos")
    settings = tiny_settings(views=("pixels",), resolution=64)
    detector, session = Job(str(folder / "photos"), folder / "out", settings).run()
    return Ranking(session, detector), {
        str(folder / "photos" / name): kind for name, kind in planted.items()
    }


def test_all_planted_oddities_are_findings_or_among_the_oddest_15(
    ranking: tuple[Ranking, dict[str, str]],
) -> None:
    ranked, planted = ranking
    assert len(planted) == 10
    session = ranked.session
    ranks = session.scores.ranks()
    reasons = ranked.detector.reasons(session.scores)
    for name, kind in planted.items():
        number = session.numbers[name]
        found = ranked.kinds_of.get(number, {})
        assert found or ranks[number] <= 15, (kind, ranks[number])
        said = "; ".join([*found.values(), one_line(reasons[number])])
        assert any(word in said for word in NAMED[kind]), (kind, said)


def test_the_table_has_the_findings_in_words(ranking: tuple[Ranking, dict[str, str]]) -> None:
    ranked, planted = ranking
    names = ranked.session.names
    # The packed data set lies beside the table.
    with (ranked.session.images.packed.path.parent / SCORES).open(newline="") as file:
        table = csv.DictReader(file)
        assert table.fieldnames is not None
        assert table.fieldnames.index("findings") == table.fieldnames.index("why") + 1
        found = {row["path"]: row["findings"] for row in table}
    assert found.keys() == set(names)
    expected = {name: WORDS[kind] for name, kind in planted.items() if kind in WORDS}
    for name, words in expected.items():
        given = found.pop(name).split("; ")
        if words.endswith(" of "):
            (said,) = (one for one in given if one.startswith(words))
            assert said.removeprefix(words) in names
        else:
            assert words in given
    assert sum(map(bool, found.values())) <= 2


def test_few_other_photographs_are_findings(ranking: tuple[Ranking, dict[str, str]]) -> None:
    ranked, planted = ranking
    others = {ranked.session.names[i] for i in ranked.kinds_of} - planted.keys()
    assert len(others) <= 2, others


def test_files_that_are_no_images_are_said(ranking: tuple[Ranking, dict[str, str]]) -> None:
    left_out = ranking[0].session.images.left_out
    said = " ".join(f"{left.reason} {left.first}" for left in left_out)
    assert ".heic" in said
    assert "truncated" in said
    assert "notes.txt" in said
