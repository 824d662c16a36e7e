"""Requests made up from our own OpenAPI document, good and bad ones: every answer must be a declared one."""

import threading
import time

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from migsvc.api import examples
from migsvc.config import Settings
from migsvc.server import bind
from migsvc.service.records import MigrationRecord, PeerRecord, SnapshotRecord, VmRecord

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture
def schema(unopened_api):
    api = unopened_api
    services = api.services
    services.vms.shelf.rows["vm-1"] = VmRecord.model_validate({**examples.VM, "id": "vm-1"})
    services.peers.shelf.rows["host-b"] = PeerRecord.model_validate(examples.PEER)
    services.snapshots.shelf.rows["s-1"] = SnapshotRecord.model_validate({**examples.SNAPSHOT, "id": "s-1"})
    services.migrations.rows["c0ffee00"] = MigrationRecord.model_validate({**examples.MIGRATION, "id": "c0ffee00"})
    listener = bind(Settings(port=0))
    server = uvicorn.Server(uvicorn.Config(api.app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{listener.getsockname()[1]}/openapi.json")
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def test_every_answer_is_a_declared_one(schema):
    # The pytest plugin of Schemathesis 4.32 does not work with pytest 9.2; its strategies and checks do.
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
        )
        @given(case=operation.as_strategy())
        def answers_as_declared(case):
            case.call_and_validate(checks=CHECKS)

        answers_as_declared()
        tried += 1
    assert tried > 30
