"""Requests that are drawn from the service's own schema: no answer is a failure of the service."""

from __future__ import annotations

from typing import Any

import pytest

from anowild.scoring import Detector
from anowild.scoring.saved_limit import LimitInUse
from anowild.serving.app import Service
from anowild.serving.limits import ServiceLimits

schemathesis = pytest.importorskip("schemathesis")


def try_all(detector: Detector, examples: int) -> set[str]:
    """Send drawn requests to every route, and check the answers against the schema; return the routes."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    service = Service(detector, LimitInUse(1.3, "given"), ServiceLimits(body=1 << 16))
    app = service.app()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples, deadline=None, derandomize=True, database=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def send(case: Any) -> None:
            tried.add(case.operation.path)
            # A schema cannot say which bytes are an image.
            case.call_and_validate(app=app, excluded_checks=[positive_data_acceptance])

        send()
    service.close()
    return tried


def test_drawn_requests_fit_the_schema(detector: Detector) -> None:
    routes = {"/score", "/heatmap", "/model", "/health", "/ready", "/metrics"}
    assert try_all(detector, 2) == routes


@pytest.mark.slow
def test_many_drawn_requests_fit_the_schema(detector: Detector) -> None:
    assert try_all(detector, 300)
