"""Requests made up from our own OpenAPI document, good and bad ones: every answer must be a declared one."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture
def schema(api):
    api.vm()
    api.peer()
    api.client.post("/v1/snapshots", json={"vm": "web-1", "name": "s-1"})
    api.client.post("/v1/migrations", json={"vm": "web-1", "peer": "host-b"})
    return schemathesis.openapi.from_asgi("/openapi.json", api.app, base_url="http://127.0.0.1:7700")


lazy = schemathesis.pytest.from_fixture("schema")


@lazy.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_a_declared_one(case):
    case.headers = {**(case.headers or {}), "Host": "127.0.0.1"}
    case.call_and_validate(checks=CHECKS)
