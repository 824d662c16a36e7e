"""What OpenAPI says beyond the types: examples, the errors of each operation, the security scheme.

Routes write `responses={**example(200, …), **errors_of("not-found", …)}`; `install` adds the shared parts to the
document. A test holds every operation to having an id, a summary, examples and its errors declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from migsvc.api.errors import BY_SLUG, PROBLEM_JSON, Problem
from migsvc.service.records import MigrationEvent
from schemas.state import VcpuState

Responses = dict[int | str, dict[str, Any]]

PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}

EXTRA_MODELS: tuple[type[BaseModel], ...] = (MigrationEvent, VcpuState)
"""Models that routes read or send by hand (other media types, event streams), and OpenAPI must still describe."""

PUBLIC_PATHS = ("/livez", "/readyz")
"""Paths that never need a token: orchestrators probe them."""

COMMON = ("unauthorized", "foreign-origin", "internal")
"""Problems that any operation behind the guard can answer with."""

EXAMPLE_DETAILS = {
    "unauthorized": "this host needs a bearer token",
    "foreign-origin": "the Host header names evil.example, which is not this host",
    "not-found": "there is no VM 'web-1'",
    "conflict": "VM 'web-1' is running; pause it first",
    "not-owner": "VM 'web-1' belongs to host-b since epoch 4",
    "illegal-state": "the state breaks 1 rule",
    "invalid-request": "the request does not fit the schema",
    "peer-failed": "http://127.0.0.1:7702 refused the connection",
}
"""Example texts where the general description would not do."""

EXAMPLE_EXTRA: dict[str, dict[str, Any]] = {
    "not-owner": {"owner": "host-b", "epoch": 4},
    "invalid-request": {
        "errors": [{"where": "body.name", "message": "Field required", "kind": "missing"}],
    },
    "illegal-state": {
        "findings": [
            {
                "rule": "INV-001",
                "severity": "error",
                "where": "vcpus[0].events.interrupt.shadow",
                "message": "an SMM shadow is set outside SMM",
                "hint": "clear the upper nibble, or set smi.smm",
            }
        ]
    },
}
"""Example members beyond the standard ones."""


def problem_example(slug: str) -> dict[str, Any]:
    """Return an example document of one kind of problem."""
    row = BY_SLUG[slug]
    detail = EXAMPLE_DETAILS.get(slug, row.description)
    return {"type": row.uri, "title": row.title, "status": row.status, "detail": detail, **EXAMPLE_EXTRA.get(slug, {})}


def errors_of(*slugs: str, guarded: bool = True) -> Responses:
    """Declare the problems of an operation, those of every guarded operation included."""
    found: Responses = {}
    for slug in (*slugs, *(COMMON if guarded else ("internal",))):
        row = BY_SLUG[slug]
        content = {"schema": PROBLEM_REF, "examples": {}}
        response = found.setdefault(row.status, {"description": "", "content": {PROBLEM_JSON: content}})
        examples = response["content"][PROBLEM_JSON]["examples"]
        examples[slug] = {"summary": row.title, "value": problem_example(slug)}
        response["description"] = "; ".join(BY_SLUG[s].title for s in examples)
    return found


def example(status: int, value: Any, *, description: str = "", location: bool = False, etag: bool = False) -> Responses:
    """Declare an example of the JSON answer with that status, and the headers that it carries."""
    response: dict[str, Any] = {"content": {"application/json": {"example": value}}}
    response["description"] = description or {200: "OK", 201: "Created", 202: "Accepted"}[status]
    headers: dict[str, Any] = {}
    if location:
        headers["Location"] = {"description": "where the object is", "schema": {"type": "string"}}
    if etag:
        headers["ETag"] = {"description": "compare with If-Match", "schema": {"type": "string"}}
    if headers:
        response["headers"] = headers
    return {status: response}


def body_examples(**values: Any) -> dict[str, Any]:
    """Return the `openapi_examples` of a request body: name -> value."""
    return {name: {"summary": name.replace("_", " "), "value": value} for name, value in values.items()}


def install(app: FastAPI, tags: Sequence[dict[str, Any]]) -> None:
    """Make `app.openapi()` add the Problem schema, the bearer scheme, and what each operation needs."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _finish(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    summary=app.summary,
                    description=app.description,
                    routes=app.routes,
                    tags=list(tags),
                    license_info=app.license_info,
                )
            )
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _finish(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for model in EXTRA_MODELS:
        found = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(found.pop("$defs", {}))
        schemas[model.__name__] = found
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "needed when the host has a token file"}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in PUBLIC_PATHS else [{"bearer": []}, {}]
    return document
