"""The routes of the service: what they answer, together and alone."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from anowild import api
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.scoring import Detector
from anowild.serving.app import Service
from tests.conftest import Run, tiny_settings, wait_until
from tests.serving.conftest import (
    HERE,
    HOSTS,
    PNG,
    Asking,
    Make,
    entries,
    form,
    get,
    png,
    post,
    run,
    sentence,
)


def zipped(images: list[bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, image in enumerate(images):
            archive.writestr(f"batch/{i:04}.png", image)
        archive.writestr("__MACOSX/._0000.png", b"not an image")
    return data.getvalue()


def test_figures_are_those_of_the_command_score(
    service: Service, model_folder: Path, folder_of: Callable[..., Path], digits: Array, pngs: list[bytes],
    anowild: Run,
) -> None:  # fmt: skip
    folder = folder_of(digits[:100])
    code, out, _ = anowild("score", model_folder, folder, "--json", "--threshold", "1.3")
    assert code == 0
    rows = {Path(row["path"]).name: row for row in map(json.loads, out.splitlines())}
    found = entries(post(service, files=form(pngs)))
    assert [image["name"] for image in found] == sorted(rows)
    for image in found:
        row = rows[image["name"]]
        assert image["score"] == row["score"]
        assert image["views"] == row["views"]
        assert "; ".join(image["reasons"]) == row["why"]
        assert image["flagged"] == row["odd"] == (image["score"] >= 1.3)
        assert image["p_value"] == 10 ** -image["score"]


def test_an_image_gets_the_same_answer_alone_in_company_and_under_load(
    make: Make, pngs: list[bytes]
) -> None:
    service = make(queue=1000)

    def without_name(image: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in image.items() if key != "name"}

    async def ask() -> None:
        asking = Asking(service)
        alone = [
            entries(await asking.post("/score", content=image, headers=PNG))[0]
            for image in pngs[:20]
        ]
        expected = [without_name(image) for image in alone]
        loaded = await asyncio.gather(
            asking.post("/score", files=form(pngs)),
            asking.post("/score", content=zipped(pngs), headers={"content-type": "application/zip"}),
            *(asking.post("/score", content=image, headers=PNG) for image in pngs[:20] * 3),
        )  # fmt: skip
        several, zip_file, *single = map(entries, loaded)
        assert [without_name(image) for image in several[:20]] == expected
        assert [without_name(image) for image in zip_file[:20]] == expected
        assert len(several) == len(zip_file) == 100
        assert zip_file[3]["name"] == "batch/0003.png"
        assert [without_name(image) for (image,) in single] == expected * 3

    run(ask())
    assert service.metrics.images == 20 + 2 * 100 + 60
    assert service.admission.images == service.admission.bytes == service.admission.requests == 0
    wait_until(lambda: service.scorer.squares == 0)  # it counts after it has answered


def test_images_of_many_requests_are_scored_together(
    service: Service, pngs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    score = service.detector.score

    def counting(images: Array, owners: Array) -> Any:
        batches.append(len(images))
        return score(images, owners)

    monkeypatch.setattr(service.detector, "score", counting)
    go = threading.Event()
    service.scorer.run(np.empty(0), go.wait)

    async def ask() -> None:
        asking = Asking(service)
        asked = [
            asyncio.ensure_future(asking.post("/score", content=image, headers=PNG))
            for image in pngs
        ]
        while service.scorer.squares < len(pngs):
            await asyncio.sleep(0.01)
        go.set()
        for answer in await asyncio.gather(*asked):
            entries(answer)

    run(ask())
    size = service.detector.batch_size
    assert 1 < size < len(pngs)
    assert batches == [size] * (len(pngs) // size) + [len(pngs) % size]


def test_files_that_are_no_images_get_a_sentence_in_their_place(
    service: Service, pngs: list[bytes]
) -> None:
    files = form([pngs[0], b"no image", pngs[1], b""])
    first, second, third, fourth = entries(post(service, files=files))
    assert first["score"] != third["score"]
    assert second == {
        "name": "0001.png",
        "error": "cannot identify it as an image: it is damaged, or of another kind",
    }
    assert fourth["name"] == "0003.png"
    assert "error" in fourth


def test_pages_of_a_tiff_are_images(service: Service, digits: Array) -> None:
    data = io.BytesIO()
    first, *others = [Image.fromarray(image) for image in digits[:3]]
    first.save(data, "TIFF", save_all=True, append_images=others)
    found = entries(post(service, files={"images": ("scan.tif", data.getvalue())}))
    assert [image["name"] for image in found] == ["scan.tif[0]", "scan.tif[1]", "scan.tif[2]"]
    answer = post(service, "/heatmap", files={"images": ("scan.tif", data.getvalue())})
    assert (answer.status_code, sentence(answer)[:22]) == (400, "scan.tif has several p")


def test_heat_map_is_a_picture_of_one_image(service: Service, pngs: list[bytes]) -> None:
    answer = post(service, "/heatmap", content=pngs[0], headers=PNG)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape == (256, 256, 3)
    assert (picture.max(axis=2) > picture.min(axis=2)).mean() > 0.5  # the digits are gray
    again = post(service, "/heatmap", files=form(pngs[:1]))
    assert again.content == answer.content
    assert post(service, "/heatmap", files=form(pngs[:2])).status_code == 400
    assert post(service, "/heatmap", content=b"x", headers=PNG).status_code == 422


def test_wide_image_has_its_heat_map_in_the_middle_that_is_seen(
    service: Service, digits: Array
) -> None:
    wide = np.zeros((64, 256), np.uint8)
    wide[:, 96:160] = np.kron(digits[0], np.ones((4, 4), np.uint8))
    answer = post(service, "/heatmap", content=png(wide), headers=PNG)
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape == (64, 256, 3)
    assert not picture[:, :95].any()
    assert not picture[:, 161:].any()
    assert picture[:, 96:160].any()


def test_model_without_heat_maps_says_so(make: Make, digits: Array, pngs: list[bytes],
                                         tmp_path: Path) -> None:  # fmt: skip
    detector = api.train(digits[:64], tmp_path / "model", tiny_settings(views=("pixels",)))
    answer = post(make(detector), "/heatmap", content=pngs[0], headers=PNG)
    assert answer.status_code == 404
    assert sentence(answer) == "No view of this model says where an image is odd."


def test_tiles_are_scored_as_by_the_detector_and_the_oddest_is_named(
    make: Make, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(100, 140, (24, 40, 56), dtype=np.uint8)
    images[5, 20:30, 33:43] = 255
    settings = tiny_settings(views=("pixels",), tiles=16)
    detector = api.train(images, tmp_path / "model", settings)
    found = entries(post(make(detector), files=form([png(image) for image in images])))
    expected = api.score(detector, images).score
    assert [image["score"] for image in found] == expected.tolist()
    assert found[5]["score"] == max(expected)
    left, top, width, height = found[5]["box"]
    assert (width, height) == (16, 16)
    assert left < 43
    assert left + width > 33
    assert top < 30
    assert top + height > 20


def test_the_model_tells_the_threshold_and_where_it_is_from(make: Make) -> None:
    told = get(make(threshold=2.25), "/model").json()
    assert (told["threshold"], told["threshold_from"]) == (2.25, "given")


def test_model_says_what_it_is(service: Service, detector: Detector) -> None:
    told = get(service, "/model").json()
    assert told["checksum"] == detector.checksum
    assert told["training_images"] == 300
    assert told["views"] == ["gan"]
    assert [cue["name"] for cue in told["cues"]] == list(detector.cue_names)
    assert told["preprocess"] == detector.preprocess.to_json()


def test_metrics_count_images_and_refusals(service: Service, pngs: list[bytes]) -> None:
    found = entries(post(service, files=form(pngs)))
    post(service, content=b"x", headers=PNG)
    post(service, json={})
    lines = get(service, "/metrics").text.splitlines()
    numbers = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines
                                                         if not line.startswith("#"))}  # fmt: skip
    assert numbers["anowild_images_scored_total"] == 100
    assert numbers["anowild_images_flagged_total"] == sum(image["flagged"] for image in found)
    assert numbers['anowild_refused_total{reason="image"}'] == 1
    assert numbers['anowild_refused_total{reason="type"}'] == 1
    assert numbers['anowild_request_seconds_count{route="/score",status="200"}'] == 1
    assert numbers['anowild_request_seconds_count{route="/score",status="415"}'] == 1
    assert numbers["anowild_batch_images_sum"] == 100
    assert numbers["anowild_queue_images"] == 0
    assert 0 < numbers["anowild_drift_distance"] < 1
    assert numbers["process_resident_memory_bytes"] > 1e7


def test_drift_is_said_once(
    service: Service, pngs: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        entries(post(service, files=form(pngs[:1] * 100)))
    said = [record.getMessage() for record in caplog.records if "any more" in record.getMessage()]
    assert len(said) == 1


def test_full_queue_refuses_at_once_and_finishes_what_it_has(make: Make, pngs: list[bytes]) -> None:
    service = make(queue=3)
    go = threading.Event()
    service.scorer.run(np.empty(0), go.wait)

    async def ask() -> None:
        asking = Asking(service)
        assert (await asking.get("/ready")).status_code == 200
        accepted = [
            asyncio.ensure_future(asking.post("/score", content=image, headers=PNG))
            for image in pngs[:3]
        ]
        while service.scorer.squares < 3:
            await asyncio.sleep(0.01)
        refused = await asking.post("/score", content=pngs[3], headers=PNG)
        assert (refused.status_code, sentence(refused)[:20]) == (429, "Too many images wait")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await asking.get("/ready")).status_code == 503
        assert (await asking.get("/health")).status_code == 200
        go.set()
        for answer in await asyncio.gather(*accepted):
            entries(answer)
        # A request may be larger than the queue, where no other waits.
        assert len(entries(await asking.post("/score", files=form(pngs[:9])))) == 9

    run(ask())


def test_many_images_of_a_request_are_refused_where_others_fill_the_queue(
    make: Make, pngs: list[bytes]
) -> None:
    service = make(queue=4)

    async def ask() -> None:
        asking = Asking(service)
        answers = await asyncio.gather(
            *(asking.post("/score", files=form(pngs[:6])) for _ in range(3))
        )
        # None waited when they came; the first whose body was read has filled the queue.
        assert sorted(answer.status_code for answer in answers) == [200, 429, 429]

    run(ask())


def test_decoding_waits_while_enough_images_wait_to_be_scored(
    service: Service, pngs: list[bytes]
) -> None:
    go = threading.Event()
    service.scorer.run(np.empty(0), go.wait)

    async def ask() -> None:
        asked = asyncio.ensure_future(Asking(service).post("/score", files=form(pngs * 5)))
        most = 4 * service.detector.batch_size
        while service.scorer.squares < most:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert service.scorer.squares < most + 64
        go.set()
        assert len(entries(await asked)) == 500

    run(ask())


def test_service_that_stops_refuses(service: Service, pngs: list[bytes]) -> None:
    service.admission.draining = True
    answer = post(service, content=pngs[0], headers=PNG)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert sentence(answer) == "The service is being stopped."
    assert get(service, "/ready").status_code == 503


def test_time_of_a_request_is_limited(make: Make, pngs: list[bytes]) -> None:
    service = make(seconds=0.2)

    async def never() -> AsyncIterator[bytes]:
        yield pngs[0][:20]
        await asyncio.sleep(60)

    answer = post(service, content=never(), headers=PNG)
    assert (answer.status_code, sentence(answer)) == (408, "The body did not come within 0.2 s.")
    go = threading.Event()
    service.scorer.run(np.empty(0), go.wait)
    answer = post(service, content=pngs[0], headers=PNG)
    assert (answer.status_code, sentence(answer)) == (503, "It took too long; send fewer images.")
    go.set()
    # What nobody waits for any more is not scored.
    service.scorer.run(np.empty(0), lambda: None).result()
    assert service.metrics.images == 0
    assert service.admission.images == 0


def test_images_of_a_client_that_leaves_are_not_scored(service: Service, pngs: list[bytes]) -> None:
    go = threading.Event()
    service.scorer.run(np.empty(0), go.wait)
    left = asyncio.Event()
    messages: list[Any] = [{"type": "http.request", "body": pngs[0], "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    async def ask() -> None:
        scope = {
            "type": "http", "method": "POST", "path": "/score", "query_string": b"", "http_version": "1.1",
            "headers": [(b"host", b"127.0.0.1:8766"), (b"content-type", b"image/png")],
        }  # fmt: skip
        asked = asyncio.ensure_future(service.app(HOSTS)(scope, receive, send))
        while not service.scorer.squares:
            await asyncio.sleep(0.01)
        left.set()
        await asked

    run(ask())
    assert service.admission.images == 0
    go.set()
    service.scorer.run(np.empty(0), lambda: None).result()
    assert service.metrics.images == 0


def test_image_that_cannot_be_scored_fails_alone(
    service: Service, pngs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    score, bad = service.detector.score, np.asarray(Image.open(io.BytesIO(pngs[7])))

    def failing(images: Array, owners: Array) -> Any:
        if any((image[0] == bad).all() for image in images):
            raise UserError("image 7: score is nan")
        return score(images, owners)

    monkeypatch.setattr(service.detector, "score", failing)
    found = entries(post(service, files=form(pngs[:20])))
    assert [i for i, image in enumerate(found) if "error" in image] == [7]
    answer = post(service, content=pngs[7], headers=PNG)
    assert (answer.status_code, sentence(answer)) == (422, "image: image 7: score is nan")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8766"}, 403),  # not among the hosts of the test
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": HERE}, 200),
    ],
)
def test_other_hosts_and_pages_are_refused(
    service: Service, headers: dict[str, str], status: int
) -> None:
    answer = run(Asking(service).get("/model", headers=headers))
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer wrong", "Basic secret-secret-12", "Bearer sécret"])  # fmt: skip
def test_wrong_token_is_refused(service: Service, pngs: list[bytes], given: str | None) -> None:
    headers = PNG if given is None else PNG | {"authorization": given.encode("latin-1")}
    asking = Asking(service, "secret-secret-12")
    answer = run(asking.post("/score", content=pngs[0], headers=headers))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert sentence(answer)
    assert service.metrics.images == 0


def test_a_host_with_a_path_in_it_is_no_way_around_the_token(
    service: Service, pngs: list[bytes]
) -> None:
    for host in ("x/health?", "x/health#", "/health"):
        asking = Asking(service, "secret-secret-12")
        asking.transport = httpx.ASGITransport(service.app(frozenset(), "secret-secret-12"))
        answer = run(asking.post("/score", content=pngs[0], headers=PNG | {"host": host}))
        assert answer.status_code == 401
    assert service.metrics.images == 0


def test_token_opens_all_and_health_is_open(service: Service, pngs: list[bytes]) -> None:
    async def ask() -> list[int]:
        asking, right = (
            Asking(service, "secret-secret-12"),
            {"authorization": "Bearer secret-secret-12"},
        )
        codes = [
            (await asking.get(path)).status_code
            for path in ("/health", "/ready", "/metrics", "/openapi.json")
        ]
        codes.append((await asking.get("/metrics", headers=right)).status_code)
        codes.append(
            (await asking.post("/score", content=pngs[0], headers=PNG | right)).status_code
        )
        return codes  # fmt: skip

    assert run(ask()) == [200, 401, 401, 401, 200, 200]
