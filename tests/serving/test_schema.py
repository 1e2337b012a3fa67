"""Requests that are drawn from the service's own schema: no answer is a failure of the service."""

from __future__ import annotations

from typing import Any

import pytest

from anowild.scoring import Detector
from anowild.serving.app import Service, Threshold
from anowild.serving.limits import Limits

schemathesis = pytest.importorskip("schemathesis")


def findings(detector: Detector, examples: int) -> tuple[list[str], set[str]]:
    """Send drawn requests to every route; return what is wrong with answers, and the routes that were tried."""
    from hypothesis import HealthCheck, Phase, given, settings

    service = Service(detector, Threshold(1.3, "given"), Limits(body=1 << 16))
    app = service.app()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    wrong: list[str] = []
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples, deadline=None, derandomize=True, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def send(case: Any) -> None:
            answer = case.call(app=app)
            tried.add(case.operation.path)
            try:
                case.validate_response(answer)
            except Exception as error:  # noqa: BLE001 - of many kinds, all of them findings
                wrong.append(f"{case.operation.path}: {error}")
            if answer.status_code >= 500:
                wrong.append(f"{case.operation.path}: {answer.status_code}")

        send()
    service.close()
    return wrong, tried


def test_drawn_requests_fit_the_schema(detector: Detector) -> None:
    wrong, tried = findings(detector, 4)
    assert wrong == []
    assert tried == {"/score", "/heatmap", "/model", "/health", "/ready", "/metrics"}


@pytest.mark.slow
def test_many_drawn_requests_fit_the_schema(detector: Detector) -> None:
    wrong, _ = findings(detector, 300)
    assert wrong == []
