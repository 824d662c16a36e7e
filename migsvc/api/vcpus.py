"""Routes of /v1/vms/{vm}/vcpus/{n}/state: the architectural state of one vCPU, as JSON or MessagePack.

The MessagePack form is what travels between hosts: section name -> raw UAPI struct, with the schema version. The
JSON form is for people and scripts: every field by its kernel name, 64-bit values as "0x…" strings.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response

from migsvc.api import examples
from migsvc.api.docs import Responses, errors_of
from migsvc.api.errors import MAX_LISTED_ERRORS, ApiProblem
from migsvc.api.negotiation import JSON, MSGPACK, content_type_of, wanted_type
from migsvc.api.params import IfMatch, Svc, VmRef, require_match
from migsvc.api.strict_json import StrictRoute
from schemas.codec.documents import pack_vcpu, unpack_vcpu, vcpu_from_json
from schemas.errors import DecodeError, SchemaError
from schemas.state import MAX_VCPUS, VcpuState, sections_digest

router = APIRouter(prefix="/v1/vms/{vm}/vcpus/{vcpu}/state", tags=["state"], route_class=StrictRoute)

VcpuIndex = Annotated[
    int, Path(ge=0, lt=MAX_VCPUS, description="index of the vCPU", openapi_examples={"first": {"value": 0}})
]

UNFIT = "the state does not fit the schema"

_SCHEMA = {"$ref": "#/components/schemas/VcpuState"}
_BINARY = {"schema": {"type": "string", "format": "binary", "description": "map: schema_version, index, sections"}}
_EXAMPLE: dict[str, Any] = examples.vcpu_state()
_ANSWER: Responses = {
    200: {
        "description": "the state; the ETag is its digest",
        "content": {JSON: {"schema": _SCHEMA, "example": _EXAMPLE}, MSGPACK: _BINARY},
        "headers": {"ETag": {"description": "digest of the state", "schema": {"type": "string"}}},
    }
}


def state_etag(state: VcpuState) -> str:
    """Return the strong ETag of a state: the digest of all its sections."""
    return f'"{sections_digest(state.to_sections()).hex()}"'


def _answer(state: VcpuState, media_type: str) -> Response:
    if media_type == MSGPACK:
        body = pack_vcpu(state)
    else:
        body = state.model_dump_json().encode()
    headers = {"ETag": state_etag(state), "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(body, headers=headers, media_type=media_type)


@router.get(
    "",
    operation_id="getVcpuState",
    summary="Read the state of a vCPU",
    response_class=Response,
    responses={
        **_ANSWER,
        **errors_of(
            *("not-found", "not-acceptable", "conflict", "not-owner", "invalid-request", "worker-failed", "not-ready")
        ),
    },
)
async def get_vcpu_state(
    services: Svc, vm: VmRef, vcpu: VcpuIndex, accept: Annotated[str, Header(max_length=1024)] = "*/*"
) -> Response:
    """Return the state at the present instruction boundary; a running VM is held for a moment."""
    media_type = wanted_type(accept)
    return _answer(await services.vms.get_state(vm, vcpu), media_type)


@router.put(
    "",
    operation_id="putVcpuState",
    summary="Replace the state of a vCPU",
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _SCHEMA, "example": _EXAMPLE}, MSGPACK: _BINARY},
        }
    },
    responses={
        **_ANSWER,
        **errors_of(
            *("not-found", "not-acceptable", "conflict", "not-owner", "precondition-failed", "body-too-large"),
            *("unsupported-media-type", "invalid-request", "illegal-state", "incompatible", "worker-failed"),
            *("bad-request", "not-ready"),
        ),
    },
)
async def put_vcpu_state(
    services: Svc,
    request: Request,
    vm: VmRef,
    vcpu: VcpuIndex,
    accept: Annotated[str, Header(max_length=1024)] = "*/*",
    if_match: IfMatch = None,
) -> Response:
    """Replace all of the state of a paused VM's vCPU. Illegal state is refused with every finding, nothing applied."""
    media_type = wanted_type(accept)
    state = parse_state(await request.body(), content_type_of(request.headers.get("content-type")), vcpu)
    if if_match is not None:
        require_match(if_match, state_etag(await services.vms.get_state(vm, vcpu)))
    return _answer(await services.vms.put_state(vm, vcpu, state), media_type)


def parse_state(body: bytes, media_type: str, vcpu: int) -> VcpuState:
    """Read a state of either form.

    Raises:
        ApiProblem: invalid-request, with every place that does not fit.
    """
    try:
        state = vcpu_from_json(body) if media_type == JSON else unpack_vcpu(body)
    except SchemaError as error:
        found = [{"where": p.where[:256], "message": p.message, "kind": "state"} for p in error.problems]
        detail = f"the state cannot be read: {error.problems[0]}" if isinstance(error, DecodeError) else UNFIT
        raise ApiProblem("invalid-request", detail[:300], errors=found[:MAX_LISTED_ERRORS]) from error
    if state.index != vcpu:
        raise ApiProblem("invalid-request", f"the state is of vCPU {state.index}, the path names vCPU {vcpu}")
    return state
