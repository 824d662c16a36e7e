"""Route that says, before anything moves, whether a host could hold a VM."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import Field

from migsvc.api import examples
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.params import IdempotencyKey, Svc, VmRef
from migsvc.service.records import Record
from schemas.compat import CompatReport, HostProfile, check_compat

router = APIRouter(prefix="/v1/vms/{vm}/compat", tags=["state"])

REPORT_EXAMPLE: dict[str, Any] = {"verdict": "exact", "findings": []}


class CompatRequest(Record):
    """What to compare the VM with."""

    profile: HostProfile = Field(description="`profile` of GET /v1/host of the other host")


@router.post(
    "",
    operation_id="checkCompat",
    summary="Check whether a host could hold a VM",
    responses={
        **example(200, REPORT_EXAMPLE),
        **errors_of(
            *("not-found", "conflict", "not-owner", "body-too-large", "invalid-request", "idempotency-key-reused"),
            *("request-in-progress", "worker-failed", "bad-request", "not-ready"),
        ),
    },
)
async def check_vm_compat(
    services: Svc,
    vm: VmRef,
    request: Annotated[
        CompatRequest, Body(openapi_examples=body_examples(other_host={"profile": examples.host_profile()}))
    ],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> CompatReport:
    """Compare the VM's present state with a host profile; a reason per field where it does not fit."""
    return check_compat(await services.vms.get_machine(vm), request.profile)
