from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from anowild.arrays import Array
from anowild.scoring import Detector
from anowild.scoring.saved_limit import LimitInUse
from anowild.serving.app import Service
from anowild.serving.limits import ServiceLimits

HERE = "http://127.0.0.1:8766"
HOSTS = frozenset({"127.0.0.1:8766"})
PNG = {"content-type": "image/png"}

#: Makes a service with some limits; it is closed at the end of the test.
Make = Callable[..., Service]


@pytest.fixture
def make(detector: Detector) -> Iterator[Make]:
    made = []

    def service(given: Detector = detector, threshold: float = 1.3, **limits: Any) -> Service:
        made.append(Service(given, LimitInUse(threshold, "given"), ServiceLimits(**limits)))
        return made[-1]

    yield service
    for one in made:
        one.close()


@pytest.fixture
def service(make: Make) -> Service:
    return make()


class Asking:
    """Requests to a service, all on one event loop."""

    def __init__(self, service: Service, token: str | None = None) -> None:
        self.transport = httpx.ASGITransport(service.app(HOSTS, token))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.transport, base_url=HERE)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.post(path, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.get(path, **options)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def post(service: Service, path: str = "/score", **options: Any) -> httpx.Response:
    answer: httpx.Response = run(Asking(service).post(path, **options))
    return answer


def get(service: Service, path: str) -> httpx.Response:
    answer: httpx.Response = run(Asking(service).get(path))
    return answer


def entries(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = json.loads(answer.content)["images"]
    return found


def sentence(answer: httpx.Response) -> str:
    """Return the one sentence of a refusal."""
    body = json.loads(answer.content)
    assert list(body) == ["detail"]
    detail: str = body["detail"]
    assert isinstance(detail, str)
    assert "\n" not in detail
    return detail


def png(pixels: Array) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="session")
def pngs(digits: Array) -> list[bytes]:
    return [png(image) for image in digits[:100]]


def form(images: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{i:04}.png", data)) for i, data in enumerate(images)]
