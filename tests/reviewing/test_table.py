"""The review of a table in parts: the same answers as that of packed images, from disk and on demand."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from anowild.arrays import Array
from anowild.errors import UserError
from anowild.libraries import library
from anowild.reviewing import on_demand, table
from anowild.reviewing.app import Review
from anowild.reviewing.export import write_marks
from anowild.reviewing.folder import table_of, write_reviewed
from anowild.reviewing.on_demand import OnDemand, Place, place_of
from anowild.reviewing.query import Query
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.session import ReviewSession
from anowild.reviewing.store import MARKS, Mark, Store
from anowild.reviewing.table import TableCatalog
from anowild.scoring import Detector
from anowild.scoring.partitions import PartitionedTable
from anowild.scoring.threshold_rules import Budget
from tests.conftest import Run
from tests.parts import table_in_parts, write_parts
from tests.reviewing.test_app import HERE, HOSTS, post


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, digits: Array) -> Path:
    """Return two folders of 90 digits in all, of which ten are there twice."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, image in enumerate([*digits[:80], *digits[:10]]):
        path = folder / ("first" if i < 40 else "second") / f"Digit {i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="session")
def table_folder(
    tmp_path_factory: pytest.TempPathFactory, detector: Detector, pictures: Path
) -> Path:
    folder = tmp_path_factory.mktemp("table") / "table"
    table_in_parts(folder, detector, str(pictures), find=Budget(12).fit(detector))
    return folder


@pytest.fixture
def catalog(table_folder: Path) -> TableCatalog:
    return TableCatalog(PartitionedTable(table_folder))


@pytest.fixture(scope="session")
def ranking(
    tmp_path_factory: pytest.TempPathFactory, detector: Detector, pictures: Path
) -> Ranking:
    """Return the same images, packed."""
    folder = tmp_path_factory.mktemp("packed")
    return Ranking(ReviewSession.make(folder, detector, str(pictures)), detector)


@pytest.fixture
def review(catalog: TableCatalog, tmp_path: Path) -> Iterator[Review]:
    store = Store(tmp_path / MARKS)
    yield Review(catalog, store, "a table", local=True)
    store.close()


@pytest.fixture
def client(review: Review) -> TestClient:
    return TestClient(review.app(HOSTS), base_url=HERE)


def marks_of(ranking: Ranking) -> list[Mark]:
    names, verdicts = ranking.session.names, ("keep", "remove", "interesting", "keep")
    made = [
        Mark(names[7 * i], "Ada", verdict, "t", ("dust",)) for i, verdict in enumerate(verdicts)
    ]
    return [*made, Mark(names[0], "Bo", "remove", "t"), Mark(names[50], "Bo", None, "t", ("edge",))]


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(reverse=True),
        Query(sort="name"),
        Query(sort="name", reverse=True),
        Query(sort="view_gan"),
        Query(sort="view_gan", reverse=True, text="SECOND"),
        Query(above=0.5, text="digit 0"),
        Query(above=0.2, below=0.6),
        Query(below=0.4, sort="view_gan"),
        Query(above=99.0),
        Query(text="100% _ ' no name"),
        Query(mark="unmarked"),
        Query(mark="marked", reverse=True),
        Query(mark="remove"),
        Query(mark="keep", reviewer="Bo"),
        Query(mark="unsure"),
        Query(disagree=True),
        Query(tag="dust", sort="name"),
        Query(tag="dust", mark="keep", above=0.0),
        Query(tag="edge", mark="unmarked"),
    ],
    ids=str,
)  # fmt: skip
def test_orders_and_filters_are_those_of_packed_images(
    catalog: TableCatalog, ranking: Ranking, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = marks_of(ranking)
    expected = [ranking.session.names[i] for i in ranking.select(query, marks)]
    found, total = catalog.window_of(query, marks)
    assert (catalog.names_of(found.tolist()), total) == (expected, len(expected))
    # In windows of 7 they are the same.
    monkeypatch.setattr(table, "WINDOW", 7)
    parts = [catalog.window_of(query, marks, start) for start in range(0, total + 7, 7)]
    assert np.concatenate([part for part, _ in parts]).tolist() == found.tolist()
    assert {count for _, count in parts} == {total}


def test_tiles_say_the_same(catalog: TableCatalog, ranking: Ranking) -> None:
    numbers = [0, 30, 89, 1]
    found = catalog.rows(numbers, False)
    packed = ranking.session.numbers
    expected = ranking.rows([packed[name] for name in found["names"]], False)
    assert found["scores"] == pytest.approx(expected["scores"], rel=1e-6)
    for what in ("names", "shown", "group"):
        assert found[what] == expected[what]
    # The reasons of the views are those of the table; what checks find, it does not know.
    assert found["findings"] == [[]] * 4
    assert all(
        theirs.endswith(ours) for ours, theirs in zip(found["why"], expected["why"], strict=True)
    )
    assert found["sizes"] == [None] * 4


def test_the_page_learns_what_there_is(client: TestClient, catalog: TableCatalog) -> None:
    info = client.get("/api/info").json()
    assert (info["count"], info["offers"], info["window"]) == (90, [], table.WINDOW)
    assert [sort["name"] for sort in info["sorts"]] == ["score", "view_gan", "name"]
    assert info["limit"]["reached"] == 12
    assert info["limit"]["score"] == catalog.limit == float(catalog.table.scores[11])
    levels = client.get("/api/levels").json()
    assert sum(levels["bars"]) == 90
    scores = np.asarray(catalog.table.scores)
    expected = [
        int((scores >= (levels["first"] + i) / 100).sum()) for i in range(len(levels["reached"]))
    ]
    assert levels["reached"] == expected
    assert (expected[0], expected[-1]) == (90, 0)
    answer = client.get("/api/order?sort=score&start=80")
    assert (len(answer.content), answer.headers["x-total"]) == (4 * 10, "90")


@pytest.mark.parametrize(
    "path",
    ["/api/map", "/api/members?image=1", "/api/scores", "/api/order?group=1", "/api/order?like=3",
     "/api/order?finding=any", "/api/rows?images=1&reviewer=me&group=1"],
)  # fmt: skip
def test_what_needs_all_pixels_is_refused_in_a_sentence(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, "needs the pixels of all images" in answer.text) == (500, True)


@pytest.mark.parametrize(
    "path",
    ["/api/order?sort=view_other", "/api/order?sort=marks", "/api/order?start=-1", "/api/order?start=x",
     "/api/rows?images=90&reviewer=me", "/api/thumbnail/90", "/api/detail?image=-1", "/api/original/90",
     '/api/order?sort=view_gan" DESC; DROP TABLE x; --'],
)  # fmt: skip
def test_what_there_is_not_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (400, "This request is invalid.")


def test_pictures_are_made_of_the_originals(
    client: TestClient, catalog: TableCatalog, pictures: Path
) -> None:
    name = catalog.names_of([4])[0]
    expected = np.asarray(Image.open(name))
    for path in ("/api/thumbnail/4", "/api/original/4"):
        shown = Image.open(io.BytesIO(client.get(path).content)).convert("L")
        assert np.array_equal(np.asarray(shown), expected)
    found = client.get("/api/detail?image=4&reviewer=me").json()
    assert (found["path"], found["size"], found["depth"]) == (name, [16, 16], "uint8")
    (row,) = catalog.table.rows([5])
    assert found["score"] == row.score
    assert "; ".join(why["text"] for why in found["why"]) == row.why
    assert {view["name"]: view["score"] for view in found["views"]} == row.views
    assert {cue["title"].replace(" ", "_"): cue["value"] for cue in found["cues"]} == row.cues
    assert client.get("/api/explain?image=4").json() == {"pictures": [], "heat": None, "near": []}


def test_a_missing_or_damaged_original_has_a_picture_in_its_place_and_a_sentence(
    detector: Detector, digits: Array, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i, image in enumerate(digits[:5]):
        Image.fromarray(image).save(images / f"{i}.png")
    parts = table_in_parts(tmp_path / "table", detector, str(images), (2,))
    catalog = TableCatalog(parts)
    gone, damaged, *_ = map(Path, catalog.names_of([0, 1]))
    gone.unlink()
    damaged.write_bytes(b"no image")
    store = Store(tmp_path / MARKS)
    client = TestClient(Review(catalog, store, "a table").app(HOSTS), base_url=HERE)
    for number, text in ((0, "is not there any more"), (1, "cannot be read")):
        answer = client.get(f"/api/thumbnail/{number}?side=32")
        assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
        assert answer.headers["cache-control"] == "no-store"  # it may come back
        assert text in client.get(f"/api/detail?image={number}&reviewer=me").json()["missing"]
        answer = client.get(f"/api/original/{number}")
        assert (answer.status_code, text in answer.text) == (500, True)
    Image.fromarray(digits[0]).save(gone)
    assert client.get("/api/thumbnail/0").headers["cache-control"] != "no-store"
    store.close()


def test_marks_are_stored_counted_undone_and_exported(
    client: TestClient, review: Review, catalog: TableCatalog, ranking: Ranking, tmp_path: Path
) -> None:
    post(client, review, "/api/mark", images=[3, 70], verdict="remove", reviewer="Ada")
    post(client, review, "/api/tag", images=[70], tag="dust", on=True, reviewer="Ada")
    found = client.get("/api/rows?images=3,4,70&reviewer=Ada").json()
    assert (found["own"], found["tags"][2]) == (["remove", None, "remove"], ["dust"])
    assert found["progress"]["remove"] == 2
    assert found["names"] == catalog.names_of([3, 4, 70])
    # Another process, which does not know the names yet.
    fresh = Review(TableCatalog(catalog.table), review.store, "a table")
    again = TestClient(fresh.app(HOSTS), base_url=HERE)
    answer = again.get("/api/order?mark=remove")
    assert np.frombuffer(answer.content, "<i4").tolist() == [3, 70]
    assert post(again, fresh, "/api/undo", reviewer="Ada")["images"] == [70]
    exported = client.get("/api/export?format=csv").text.splitlines()
    names = catalog.names_of([3, 70])
    scores = [float(catalog.table.scores[number]) for number in (3, 70)]
    for line, name, score in zip(exported[1:], names, scores, strict=True):
        assert line.startswith(f"{name},1,remove,,Ada,")
        assert line.endswith(f",remove,{score},")
    # From the folder of the review as well, as the ordinary review's marks.
    write_reviewed(tmp_path, catalog.table)
    assert write_marks(tmp_path, tmp_path / "marks.csv") == 2
    assert (tmp_path / "marks.csv").read_text().splitlines() == exported


def test_a_review_belongs_to_one_table(
    catalog: TableCatalog, detector: Detector, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "review"
    write_reviewed(folder, catalog.table)
    write_reviewed(folder, catalog.table)  # again
    found = table_of(folder)
    assert found is not None
    assert found.folder == catalog.table.folder
    other = write_parts(tmp_path / "other", detector, str(pictures / "first"), (), tmp_path).finish(
        1
    )
    with pytest.raises(UserError, match="is the review of another table"):
        write_reviewed(folder, other)
    # The table was moved, with the review inside.
    moved = shutil.copytree(tmp_path / "other", tmp_path / "moved")
    write_reviewed(moved / "review", other)
    shutil.rmtree(tmp_path / "other")
    found = table_of(moved / "review")
    assert found is not None
    assert found.folder == moved


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/b.png", Place("a/b.png", 0)),
        ("a/b.tif[3]", Place("a/b.tif", 3)),
        ("two\nlines.tif[0]", Place("two\nlines.tif", 0)),
        ("s3://bucket/a.jpg", Place("s3://bucket/a.jpg", 0)),
        ("a.tar/b.png", None),
        ("s3://bucket/a.ZIP/b.png", None),
        ("a.parquet[3]", None),
        ("a.npy", None),
        ("/etc/passwd", None),
    ],
)
def test_where_an_image_lies(name: str, place: Place | None) -> None:
    assert place_of(name) == place


def test_pages_of_a_file_and_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: TableCatalog
) -> None:
    pages = [Image.fromarray(np.full((6, 9), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    originals = OnDemand(tmp_path, catalog.table.facts.preprocess)
    assert int(originals.pixels("stack.tif[1]").max()) == 20
    assert int(originals.pixels("stack.tif[1]", 2).max()) == 30
    assert (originals.pages("stack.tif[1]"), originals.page("stack.tif[1]")) == (3, 1)
    with pytest.raises(UserError, match="has no page 7"):
        originals.pixels("stack.tif[7]")
    with pytest.raises(UserError, match="no image file of its own"):
        originals.pixels("a.zip/b.png")
    # A table may be a stranger's: its addresses lead to object stores alone.
    for address in ("http://127.0.0.1/a.png", "file:///etc/a.png", "ftp://host/a.png"):
        with pytest.raises(UserError, match="is not fetched"):
            originals.pixels(address)
        assert originals.path(address) is None
    monkeypatch.setattr(on_demand, "STORES", ("memory",))
    data = io.BytesIO()
    pages[2].save(data, "PNG")
    library("fsspec", "the test").filesystem("memory").pipe("/bucket/a.png", data.getvalue())
    assert int(originals.pixels("memory://bucket/a.png").max()) == 30
    with pytest.raises(UserError, match="is not there any more"):
        originals.pixels("memory://bucket/b.png")


def test_thumbnails_are_kept_within_bounds(
    catalog: TableCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals, names = catalog.originals, catalog.names_of(list(range(20)))
    made = [originals.thumbnail(name) for name in names]
    decoded: list[str] = []
    pixels = originals.pixels

    def counted(name: str) -> Array:
        decoded.append(name)
        return pixels(name)

    monkeypatch.setattr(originals, "pixels", counted)
    assert [originals.thumbnail(name) for name in names] == made
    assert not decoded
    monkeypatch.setattr(on_demand, "KEPT_BYTES", 3 * len(made[0]))
    originals.thumbnail(catalog.names_of([40])[0])
    assert originals.thumbnail(names[0]) == made[0]
    assert len(decoded) == 2


def test_queries_reach_nothing_but_the_parts(catalog: TableCatalog, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for query in (
        f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "SET enable_external_access = true",
    ):
        with pytest.raises(UserError, match="cannot be looked through"):
            catalog._queries._run(query, [])
    assert not (tmp_path / "out.csv").exists()


def test_commands_say_what_is_wrong(
    anowild: Run, table_folder: Path, pictures: Path, model_folder: Path, tmp_path: Path
) -> None:
    for given, text in (
        ((table_folder, pictures), "names its images"),
        ((model_folder,), "name the images"),
        ((table_folder, "--again"), "--again scores images"),
        ((model_folder, pictures), "name the folder of the review"),
        ((tmp_path,), "this folder holds none"),
    ):
        code, _, err = anowild("review", *given)
        assert (code, text in err) == (1, True), err


def test_a_table_of_a_part_that_is_gone_says_so(table_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(table_folder, tmp_path / "table")
    catalog = TableCatalog(PartitionedTable(folder))
    catalog.table.paths[0].unlink()
    with pytest.raises(UserError, match="cannot be looked through"):
        catalog.window_of(Query(sort="view_gan"), [])
    with pytest.raises(UserError, match="is missing"):
        catalog.rows(list(range(90)), False)


def test_scores_of_other_facts_are_shown_as_far_as_the_training_images_reach(
    catalog: TableCatalog,
) -> None:
    catalog.table.facts = replace(catalog.table.facts, training_images=2)
    assert "> 0.30" in catalog.rows([0], False)["shown"]


def test_a_table_is_opened_without_what_takes_seconds_to_load(table_folder: Path) -> None:
    script = (
        "import sys\n"
        "import anowild.reviewing.serve\n"
        "from anowild.reviewing.table import TableCatalog\n"
        "from anowild.scoring.partitions import PartitionedTable\n"
        "catalog = TableCatalog(PartitionedTable(sys.argv[1]))\n"
        "catalog.about(), catalog.rows([0, 1], False), catalog.thumbnail(0)\n"
        "print(sorted({'torch', 'sklearn', 'pandas', 'scipy'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(table_folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
