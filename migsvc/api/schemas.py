"""Routes of /v1/schemas: the layout of each schema version, and what a change of it breaks."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from migsvc import schema_exports
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.errors import ApiProblem
from migsvc.api.params import IdempotencyKey, get_services
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import Record
from schemas.evolution import EvolutionError, EvolutionReport, SchemaExport, compare, export_of

router = APIRouter(
    prefix="/v1/schemas", tags=["schemas"], dependencies=[Depends(get_services)], route_class=StrictRoute
)

VersionRef = Annotated[
    str,
    Path(
        min_length=1,
        max_length=16,
        description=f"a schema version, or `{schema_exports.PRESENT}`",
        openapi_examples={"version": {"value": "1"}},
    ),
]

DIGEST = "sha256:" + "5e" * 32
SUMMARY_EXAMPLE: dict[str, Any] = {"name": "1", "schema_version": 1, "digest": DIGEST, "released": True}
EXPORT_EXAMPLE: dict[str, Any] = {
    "format": 1,
    "schema_version": 1,
    "digest": DIGEST,
    "versions": {"written": 1, "read": [1]},
    "sections": {"regs": {"scope": "vcpu", "struct": "KvmRegs", "required": True, "max_bytes": 144}},
    "structs": {"KvmRegs": {"size": 144, "align": 8, "fields": {"rax": {"offset": 0, "size": 8, "type": "u64"}}}},
    "enums": {"ShadowMask": {"role": "flags", "members": {"KVM_X86_SHADOW_INT_STI": 2}}},
    "invariants": {"INV-001": {"severity": "error", "text": "only known flags", "where": "events.flags"}},
    "compat_rules": {},
    "order": {"restore": {"sequence": ["regs"], "steps": {"regs": {"reason": "SREGS wakes the vCPU"}}}},
}
REPORT_EXAMPLE: dict[str, Any] = {
    "old": {"schema_version": 1, "digest": DIGEST},
    "new": {"schema_version": 2, "digest": DIGEST},
    "verdict": "forward-only",
    "forward": True,
    "backward": False,
    "strict": False,
    "version_needed": False,
    "counts": {"breaking": 0, "backward-only": 0, "forward-only": 1, "compatible": 0},
    "changes": [
        {
            "id": "EVO-305",
            "kind": "flag-added",
            "subject": "enums.VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW",
            "change_class": "forward-only",
            "surfaces": {"stream": "forward-only", "documents": "forward-only"},
            "old": "none",
            "new": "0x40",
            "reason": "OLD refuses or ignores the flag, and what it makes valid is lost",
            "declared": None,
        }
    ],
}


class SchemaSummary(BaseModel):
    """One schema version whose layout this host knows."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="last part of its path")
    schema_version: int
    digest: str = Field(description="of the export's canonical JSON")
    released: bool = Field(description="it never changes again")


class SchemaCheckRequest(Record):
    """Two versions to compare, each by its name or as a whole export."""

    old: Annotated[str, Field(max_length=16)] | dict[str, Any] = Field(
        description="a version, `present`, or an export as GET /v1/schemas/{version} answers it"
    )
    new: Annotated[str, Field(max_length=16)] | dict[str, Any] = Field(description="likewise")
    strict: bool = Field(default=False, description="count declared changes too")


@router.get(
    "",
    operation_id="listSchemas",
    summary="List the schema versions whose layout is known here",
    responses={**example(200, [SUMMARY_EXAMPLE]), **errors_of("not-ready")},
)
async def list_schemas() -> list[SchemaSummary]:
    """Return the versions whose exports are kept, ascending, then what this program does."""
    return await asyncio.to_thread(_summaries)


def _summaries() -> list[SchemaSummary]:
    exports = [(str(number), schema_exports.kept(number)) for number in schema_exports.kept_versions()]
    present = schema_exports.present()
    return [_summary(name, found) for name, found in (*exports, (schema_exports.PRESENT, present))]


def _summary(name: str, found: SchemaExport) -> SchemaSummary:
    released = name != schema_exports.PRESENT and found.schema_version in schema_exports.RELEASED
    return SchemaSummary(name=name, schema_version=found.schema_version, digest=found.digest, released=released)


@router.get(
    "/{version}",
    operation_id="getSchema",
    summary="Show the whole layout of a schema version",
    response_model=SchemaExport,
    response_model_exclude_defaults=True,
    responses={**example(200, EXPORT_EXAMPLE), **errors_of("not-found", "invalid-request", "not-ready")},
)
async def get_schema(version: VersionRef) -> SchemaExport:
    """Return structs, offsets, sections, records, named numbers, flags, rules and orders, with a digest."""
    return await asyncio.to_thread(schema_exports.named, version)


@router.post(
    "/check",
    operation_id="checkSchemas",
    summary="Say what a change from one schema version to another breaks",
    responses={
        **example(200, REPORT_EXAMPLE),
        **errors_of(
            *("not-found", "body-too-large", "invalid-request", "bad-request", "idempotency-key-reused"),
            *("request-in-progress", "not-ready"),
        ),
    },
)
async def check_schemas(
    request: Annotated[
        SchemaCheckRequest,
        Body(openapi_examples=body_examples(released_against_present={"old": "1", "new": "present", "strict": False})),
    ],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> EvolutionReport:
    """Compare two exports by meaning: each change is compatible, forward-only, backward-only or breaking."""
    return await asyncio.to_thread(_check, request)


def _check(request: SchemaCheckRequest) -> EvolutionReport:
    return compare(_export("old", request.old), _export("new", request.new), strict=request.strict)


def _export(side: str, given: str | dict[str, Any]) -> SchemaExport:
    """Return the export that one side of a request names or holds.

    Raises:
        NotFoundError: no export of that name.
        ApiProblem: invalid-request, a document that is no export.
    """
    if isinstance(given, str):
        return schema_exports.named(given)
    try:
        return export_of(given)
    except EvolutionError as error:
        listed = [
            {"where": f"body.{side}.{problem.where}", "message": problem.message, "kind": "export"}
            for problem in error.problems
        ]
        hint = "GET /v1/schemas/{version} answers one"
        raise ApiProblem("invalid-request", f"{side} is no schema export", hint=hint, errors=listed) from error
