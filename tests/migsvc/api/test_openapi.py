import re

import pytest
from pydantic import TypeAdapter

from migsvc.api import examples
from migsvc.api.errors import PROBLEM_JSON, PROBLEMS
from migsvc.service.records import (
    ConsoleChunk,
    MigrationEvent,
    MigrationOptions,
    MigrationRecord,
    PeerRecord,
    SnapshotRecord,
    StepResult,
    VmRecord,
)
from schemas.compat import HostProfile
from schemas.state import VcpuState

METHODS = ("get", "put", "post", "delete")


@pytest.fixture
def document(api):
    return api.client.get("/openapi.json").json()


def operations(document):
    return [(path, method, op) for path, item in document["paths"].items() for method, op in item.items()]


def test_the_whole_api_of_the_specification_is_there(document):
    wanted = """
        GET /livez  GET /readyz  GET /version  GET /metrics  GET /v1/host
        POST /v1/vms  GET /v1/vms  GET /v1/vms/{vm}  DELETE /v1/vms/{vm}
        POST /v1/vms/{vm}/run  POST /v1/vms/{vm}/pause  POST /v1/vms/{vm}/step
        POST /v1/vms/{vm}/smi  POST /v1/vms/{vm}/nmi  POST /v1/vms/{vm}/interrupt  GET /v1/vms/{vm}/console
        GET /v1/vms/{vm}/vcpus/{vcpu}/state  PUT /v1/vms/{vm}/vcpus/{vcpu}/state
        POST /v1/snapshots  GET /v1/snapshots  GET /v1/snapshots/{snapshot}  DELETE /v1/snapshots/{snapshot}
        GET /v1/snapshots/{snapshot}/content  PUT /v1/snapshots/{snapshot}/content
        POST /v1/snapshots/{snapshot}/restore
        POST /v1/peers  GET /v1/peers  DELETE /v1/peers/{peer}
        POST /v1/migrations  GET /v1/migrations  GET /v1/migrations/{migration}
        GET /v1/migrations/{migration}/events  POST /v1/migrations/{migration}/cancel
        GET /v1/schemas  GET /v1/schemas/{version}  POST /v1/schemas/check
    """
    there = {f"{method.upper()} {path}" for path, method, _ in operations(document)}
    assert set(re.findall(r"[A-Z]+ \S+", wanted)) <= there


def test_every_operation_has_an_id_a_summary_and_a_description(document):
    ids = [op["operationId"] for _, _, op in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in ids)
    assert all(op["summary"] and op["description"] and op["tags"] for _, _, op in operations(document))


def test_every_operation_declares_its_errors_as_problems_with_examples(document):
    by_uri = {row.uri: row for row in PROBLEMS}
    for path, method, op in operations(document):
        failures = {int(status): r for status, r in op["responses"].items() if int(status) >= 400}
        needed = {500} if path in ("/livez", "/readyz") else {401, 403, 500}
        assert needed <= set(failures), (path, method)
        for status, response in failures.items():
            content = response["content"][PROBLEM_JSON]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["examples"], (path, method, status)
            for shown in content["examples"].values():
                assert by_uri[shown["value"]["type"]].status == status == shown["value"]["status"]


def test_what_has_parameters_can_be_invalid_and_what_has_a_body_can_be_too_large(document):
    for path, method, op in operations(document):
        if op.get("parameters") or "requestBody" in op:
            assert "422" in op["responses"], (path, method)
        if "requestBody" in op:
            assert "413" in op["responses"], (path, method)
        if "{" in path:
            assert "404" in op["responses"] or method == "put", (path, method)
        if path.startswith("/v1"):
            assert "503" in op["responses"], (path, method)


def test_every_success_and_every_body_has_an_example(document):
    for path, method, op in operations(document):
        for status, response in op["responses"].items():
            if status in ("204", "206") or int(status) >= 400:
                continue
            for media_type, content in response["content"].items():
                binary = content.get("schema", {}).get("format") == "binary"
                assert binary or "example" in content or "examples" in content, (path, method, status, media_type)
        for media_type, content in op.get("requestBody", {}).get("content", {}).items():
            binary = content["schema"].get("format") == "binary"
            assert binary or "example" in content or "examples" in content, (path, method, media_type)


def test_every_post_under_v1_takes_an_idempotency_key(document):
    for path, method, op in operations(document):
        if method == "post":
            names = [p["name"] for p in op["parameters"]]
            assert "Idempotency-Key" in names, path
            assert {"409", "422"} <= set(op["responses"])


def test_accepted_and_created_answers_say_where(document):
    for path, method, op in operations(document):
        for status in ("201", "202"):
            if status in op["responses"]:
                assert "Location" in op["responses"][status]["headers"], (path, method)


def test_the_probes_are_open_and_all_else_names_the_bearer_scheme(document):
    for path, _, op in operations(document):
        assert op["security"] == ([] if path in ("/livez", "/readyz") else [{"bearer": []}, {}])


def test_every_reference_leads_somewhere(document):
    names = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', __import__("json").dumps(document)))
    assert names <= set(document["components"]["schemas"])
    assert {"Problem", "VcpuState", "MigrationEvent"} <= set(document["components"]["schemas"])


def test_nothing_is_loaded_from_elsewhere(api):
    assert api.client.get("/docs").status_code == api.client.get("/redoc").status_code == 404
    assert "http://" not in api.client.get("/openapi.json").text.replace("http://127.0.0.1", "").replace("http://x", "")


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (VmRecord, examples.VM),
        (VmRecord, examples.PAUSED_VM),
        (ConsoleChunk, examples.CONSOLE),
        (StepResult, examples.STEP),
        (SnapshotRecord, examples.SNAPSHOT),
        (SnapshotRecord, examples.WRITING_SNAPSHOT),
        (PeerRecord, examples.PEER),
        (MigrationOptions, examples.OPTIONS),
        (MigrationRecord, examples.MIGRATION),
        (MigrationRecord, examples.QUEUED_MIGRATION),
        (MigrationEvent, examples.EVENT),
        (VcpuState, examples.vcpu_state()),
        (HostProfile, examples.host_profile()),
    ],
)
def test_the_examples_fit_their_models(model, value):
    TypeAdapter(model).validate_python(value)
