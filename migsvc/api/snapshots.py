"""Routes of /v1/snapshots: take, list, show, delete, restore."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response

from migsvc.api import examples
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.params import IdempotencyKey, PagingParams, SnapshotRef, Svc, epoch_etag, filtered_page, link_next
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import Page, SnapshotCreate, SnapshotRecord, SnapshotRestore, SnapshotStatus, VmRecord

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"], route_class=StrictRoute)


@router.post(
    "",
    status_code=202,
    operation_id="createSnapshot",
    summary="Take a snapshot of a VM",
    responses={
        **example(202, examples.WRITING_SNAPSHOT, location=True),
        **errors_of(
            *("not-found", "conflict", "not-owner", "body-too-large", "invalid-request", "idempotency-key-reused"),
            *("request-in-progress", "limit-exceeded", "bad-request", "worker-failed", "storage-failed", "not-ready"),
        ),
    },
)
async def create_snapshot(
    services: Svc,
    request: Annotated[
        SnapshotCreate, Body(openapi_examples=body_examples(named={"vm": "web-1", "name": "before-upgrade"}))
    ],
    response: Response,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> SnapshotRecord:
    """Begin a snapshot. It is written in the background; follow Location until `status` is ready."""
    record = await services.snapshots.create(request)
    response.headers["Location"] = f"/v1/snapshots/{record.id}"
    return record


@router.get(
    "",
    operation_id="listSnapshots",
    summary="List the snapshots of this host",
    responses={
        **example(200, examples.page(examples.SNAPSHOT)),
        **errors_of("bad-request", "invalid-request", "not-ready"),
    },
)
async def list_snapshots(
    services: Svc,
    paging: PagingParams,
    request: Request,
    response: Response,
    vm: Annotated[str | None, Query(max_length=64, description="only of this VM (id or name)")] = None,
    status: Annotated[list[SnapshotStatus] | None, Query(max_length=8, description="only these statuses")] = None,
) -> Page[SnapshotRecord]:
    """Return one page of the snapshots, oldest first."""

    def keep(record: SnapshotRecord) -> bool:
        return (vm is None or vm in (record.vm, record.vm_name)) and (not status or record.status in status)

    return link_next(request, response, await filtered_page(services.snapshots.list, paging, keep))


@router.get(
    "/{snapshot}",
    operation_id="getSnapshot",
    summary="Show one snapshot",
    responses={**example(200, examples.SNAPSHOT), **errors_of("not-found", "invalid-request", "not-ready")},
)
async def get_snapshot(services: Svc, snapshot: SnapshotRef) -> SnapshotRecord:
    """Return one snapshot."""
    return await services.snapshots.get(snapshot)


@router.delete(
    "/{snapshot}",
    status_code=204,
    operation_id="deleteSnapshot",
    summary="Delete a snapshot",
    responses=errors_of("not-found", "conflict", "invalid-request", "storage-failed", "not-ready"),
)
async def delete_snapshot(services: Svc, snapshot: SnapshotRef) -> None:
    """Delete a snapshot and its stream file."""
    await services.snapshots.delete(snapshot)


@router.post(
    "/{snapshot}/restore",
    status_code=201,
    operation_id="restoreSnapshot",
    summary="Make a new VM of a snapshot",
    responses={
        **example(201, examples.PAUSED_VM, location=True, etag=True),
        **errors_of(
            *(
                "not-found",
                "conflict",
                "incompatible",
                "illegal-state",
                "stream-rejected",
                "body-too-large",
                "invalid-request",
            ),
            *("idempotency-key-reused", "request-in-progress", "limit-exceeded", "worker-failed", "storage-failed"),
            *("bad-request", "not-ready"),
        ),
    },
)
async def restore_snapshot(
    services: Svc,
    snapshot: SnapshotRef,
    request: Annotated[
        SnapshotRestore, Body(openapi_examples=body_examples(and_run_it={"name": "web-1-copy", "run": True}))
    ],
    response: Response,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> VmRecord:
    """Make a new VM, with an id of its own and epoch 1, that goes on from the snapshot's instruction boundary."""
    record = await services.snapshots.restore(snapshot, request)
    response.headers["Location"] = f"/v1/vms/{record.id}"
    response.headers["ETag"] = epoch_etag(record.epoch)
    return record
