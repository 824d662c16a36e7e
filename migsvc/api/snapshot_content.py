"""Routes of /v1/snapshots/{id}/content: the stream file itself, down and up. Bytes are streamed, never held."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse

from migsvc.api import examples
from migsvc.api.docs import errors_of, example
from migsvc.api.errors import ApiProblem
from migsvc.api.params import SnapshotRef, Svc
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import NAME_PATTERN, SnapshotRecord

OCTET_STREAM = "application/octet-stream"
"""Media type of the stream file; its layout is FORMAT.md."""

router = APIRouter(prefix="/v1/snapshots/{snapshot}/content", tags=["snapshots"], route_class=StrictRoute)

_BINARY: dict[str, Any] = {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}}

UploadId = Annotated[
    str,
    Path(
        alias="snapshot",
        pattern=NAME_PATTERN,
        max_length=64,
        description="id of the new snapshot, chosen by the caller",
        openapi_examples={"id": {"value": "copy-of-5b1d0c6e"}},
    ),
]


@router.get(
    "",
    operation_id="downloadSnapshot",
    summary="Download the stream file",
    response_class=FileResponse,
    responses={
        200: {"description": "the stream file, as `migsvc stream verify` takes it", "content": _BINARY},
        206: {"description": "the wanted range of it", "content": _BINARY},
        **errors_of(
            *("bad-request", "not-found", "conflict", "range-not-satisfiable", "invalid-request", "storage-failed"),
            "not-ready",
        ),
    },
)
async def download_snapshot(services: Svc, snapshot: SnapshotRef) -> Response:
    """Send the file; Range requests are served, so that a broken download can go on."""
    path, _size = await services.snapshots.open_content(snapshot)
    return FileResponse(path, media_type=OCTET_STREAM, filename=f"{snapshot}.migsvc")


@router.put(
    "",
    status_code=201,
    operation_id="uploadSnapshot",
    summary="Upload a stream file as a new snapshot",
    openapi_extra={"requestBody": {"required": True, "content": _BINARY}},
    responses={
        **example(201, examples.SNAPSHOT, location=True),
        **errors_of(
            *("conflict", "body-too-large", "unsupported-media-type", "invalid-request", "limit-exceeded"),
            *("stream-rejected", "bad-request", "storage-failed", "not-ready"),
        ),
    },
)
async def upload_snapshot(
    services: Svc,
    snapshot: UploadId,
    request: Request,
    response: Response,
    name: Annotated[str | None, Query(pattern=NAME_PATTERN, description="name of the snapshot")] = None,
    content_type: Annotated[str, Header(alias="Content-Type", max_length=128)] = OCTET_STREAM,
) -> SnapshotRecord:
    """Take a stream file in, verify all of it, and list it only then. A refused one leaves nothing behind."""
    if content_type.partition(";")[0].strip().lower() != OCTET_STREAM:
        raise ApiProblem("unsupported-media-type", f"Content-Type is {content_type!r}", hint=f"send {OCTET_STREAM}")
    # The router's body limit counts the bytes; it ends the stream with 413 in the middle.
    record = await services.snapshots.put_content(snapshot, request.stream(), name)
    response.headers["Location"] = f"/v1/snapshots/{record.id}"
    return record
