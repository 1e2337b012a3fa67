"""A page that scores in a browser; needs npm's package onnxruntime-web, in the folder of ANOWILD_ORT_WEB."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

from anowild.arrays import Array
from anowild.exporting.page import RUNTIME, read_runtime, write_page
from anowild.portable.model import PortableModel
from anowild.scoring import Detector
from tests.browser import browser_of_tests


@pytest.fixture
def browser() -> Iterator[Browser]:
    yield from browser_of_tests()


def test_a_page_holds_all_its_parts(onnx_file: Path, tmp_path: Path) -> None:
    for name, content in zip(
        ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"), "ab", strict=True
    ):
        (tmp_path / name).write_text(content)
    facts = PortableModel(onnx_file, 1).facts
    write_page(b"<model>", facts, tmp_path / "page.html", tmp_path)
    text = (tmp_path / "page.html").read_text()
    assert '"wasm">Yg==<' in text
    assert '"model">PG1vZGVsPg==<' in text
    assert '"runtime">YQ==<' in text
    assert "@" not in text.partition("<script type")[2].partition('<script type="module">')[0]
    assert "connect-src 'none'" in text


@pytest.mark.slow
def test_a_browser_scores_alike(
    browser: Browser, whole: Detector, onnx_file: Path, digits: Array, tmp_path: Path
) -> None:
    runtime = Path(os.environ.get("ANOWILD_ORT_WEB", RUNTIME))
    if not runtime.is_dir():
        pytest.skip("npm install onnxruntime-web, and ANOWILD_ORT_WEB with its folder dist")
    assert read_runtime(runtime)
    write_page(
        onnx_file.read_bytes(), PortableModel(onnx_file, 1).facts, tmp_path / "page.html", runtime
    )
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (33, 21, 3)).astype(np.uint8)
    images = {"color.png": color} | {f"{i}.png": digits[i] for i in range(120, 140)}
    for name, pixels in images.items():
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no image")
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    page.set_input_files("#files", [tmp_path / name for name in [*images, "broken.png"]])
    page.wait_for_selector("body[data-scored]")
    assert "21 images" in page.inner_text("#status")
    assert "Left out: broken.png" in page.inner_text("#status")
    serious = [
        v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
    with page.expect_download() as download:
        page.click("#save")
    with Path(download.value.path()).open(newline="") as file:
        found = {row["path"]: float(row["score"]) for row in csv.DictReader(file)}
    for name, pixels in images.items():
        square = whole.preprocess(pixels.reshape(*pixels.shape[:2], -1))
        assert np.isclose(found[name], whole.score(square[None]).score[0], rtol=1e-3, atol=1e-5), (
            name
        )
    # The page itself, what it holds, and the pictures that were chosen: nothing leaves, nothing is loaded.
    assert {url.partition(":")[0] for url in asked} <= {"file", "blob", "data"}
