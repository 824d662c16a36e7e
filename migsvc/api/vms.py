"""Routes of /v1/vms: make, list, show and delete VMs, and read their console."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response

from migsvc.api import examples
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.params import (
    IdempotencyKey,
    IfMatch,
    PagingParams,
    Svc,
    VmRef,
    epoch_etag,
    filtered_page,
    link_next,
    require_match,
    unless_closing,
)
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import ConsoleChunk, Page, VmCreate, VmRecord, VmStatus

router = APIRouter(prefix="/v1/vms", tags=["vms"], route_class=StrictRoute)

MAX_CONSOLE_CHUNK_BYTES = 1 << 20
MAX_CONSOLE_WAIT_S = 30.0
"""The most that the settings `max_console_*` can allow, for the OpenAPI document."""


@router.post(
    "",
    status_code=201,
    operation_id="createVm",
    summary="Make a VM",
    responses={
        **example(201, examples.PAUSED_VM, location=True, etag=True),
        **errors_of(
            *("conflict", "body-too-large", "invalid-request", "idempotency-key-reused", "request-in-progress"),
            *("limit-exceeded", "bad-request", "worker-failed", "storage-failed", "not-ready"),
        ),
    },
)
async def create_vm(
    services: Svc,
    request: Annotated[
        VmCreate,
        Body(
            openapi_examples=body_examples(
                bundled_guest={"name": "web-1", "guest": "ticker64", "guest_params": {"ticks": 1000}, "run": True},
                flat_image={
                    "name": "boot-1",
                    "images": [{"gpa": 0x7C00, "data_base64": "9OvN"}],
                    "ram_bytes": 1 << 20,
                },
                firmware={"name": "rom-1", "boot": {"kind": "bios", "data_base64": "9PT0"}, "cpu_model": "pentium"},
            )
        ),
    ],
    response: Response,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> VmRecord:
    """Make a VM in a process of its own, from a bundled guest, a ROM, a kernel, or flat images. Paused unless `run`."""
    record = await services.vms.create(request)
    response.headers["Location"] = f"/v1/vms/{record.id}"
    response.headers["ETag"] = epoch_etag(record.epoch)
    return record


@router.get(
    "",
    operation_id="listVms",
    summary="List the VMs of this host",
    responses={**example(200, examples.page(examples.VM)), **errors_of("bad-request", "invalid-request", "not-ready")},
)
async def list_vms(
    services: Svc,
    paging: PagingParams,
    request: Request,
    response: Response,
    status: Annotated[list[VmStatus] | None, Query(max_length=16, description="only these statuses")] = None,
    guest: Annotated[str | None, Query(max_length=64, description="only this bundled guest")] = None,
) -> Page[VmRecord]:
    """Return one page of the VMs, oldest first; migrated ones are kept as a record of where they went."""

    def keep(vm: VmRecord) -> bool:
        return (not status or vm.status in status) and (guest is None or vm.guest == guest)

    return link_next(request, response, await filtered_page(services.vms.list, paging, keep))


@router.get(
    "/{vm}",
    operation_id="getVm",
    summary="Show one VM",
    responses={
        **example(200, examples.VM, etag=True),
        **errors_of("not-found", "invalid-request", "not-ready"),
    },
)
async def get_vm(services: Svc, vm: VmRef, response: Response) -> VmRecord:
    """Return one VM. The ETag names its ownership epoch, not its counters."""
    record = await services.vms.get(vm)
    response.headers["ETag"] = epoch_etag(record.epoch)
    response.headers["Cache-Control"] = "no-store"
    return record


@router.delete(
    "/{vm}",
    status_code=204,
    operation_id="deleteVm",
    summary="Delete a VM",
    responses=errors_of(
        *("not-found", "conflict", "not-owner", "precondition-failed", "invalid-request", "worker-failed", "not-ready"),
    ),
)
async def delete_vm(services: Svc, vm: VmRef, if_match: IfMatch = None) -> None:
    """End the VM's worker and forget the VM; its snapshots stay. Refused while it is being migrated."""
    require_match(if_match, epoch_etag((await services.vms.get(vm)).epoch) if if_match else "")
    await services.vms.delete(vm)


@router.get(
    "/{vm}/console",
    operation_id="readConsole",
    summary="Read the serial console",
    responses={
        **example(200, examples.CONSOLE),
        **errors_of(
            "not-found", "conflict", "not-owner", "bad-request", "invalid-request", "worker-failed", "not-ready"
        ),
    },
)
async def read_console(
    services: Svc,
    request: Request,
    vm: VmRef,
    offset: Annotated[int, Query(ge=0, lt=1 << 63, description="from this byte on, counted since the VM's first")] = 0,
    max_bytes: Annotated[int, Query(ge=1, le=MAX_CONSOLE_CHUNK_BYTES, description="most bytes in the answer")] = 65536,
    wait_s: Annotated[
        float, Query(ge=0, le=MAX_CONSOLE_WAIT_S, allow_inf_nan=False, description="wait this long for the first byte")
    ] = 0,
) -> ConsoleChunk:
    """Return console bytes from `offset` on; go on with `next_offset`. Offsets run on across migrations."""
    return await unless_closing(request, services.vms.console(vm, offset, max_bytes, wait_s))
