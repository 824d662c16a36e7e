"""Routes that say, before anything moves, what fits where."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import Field

from migsvc.api import examples
from migsvc.api.docs import body_examples, errors_of, example
from migsvc.api.params import IdempotencyKey, Svc, VmRef
from migsvc.api.strict_json import StrictRoute
from migsvc.service.compat import CompatOperand, HostOperand
from migsvc.service.records import Record
from schemas.compat import Baseline, CompatReport, HostProfile, check_compat
from schemas.compat.baseline import MAX_HOSTS

router = APIRouter(tags=["state"], route_class=StrictRoute)

REPORT_EXAMPLE: dict[str, Any] = {"verdict": "exact", "findings": [], "omitted": 0}

BASELINE_EXAMPLE: dict[str, Any] = {
    "profile": {**examples.host_profile(), "name": "baseline"},
    "hosts": [{"host": "host-b", "verdict": "exact", "blocked_by": [], "gives_up": []}],
}


class CompatRequest(Record):
    """What to compare the VM with."""

    profile: HostProfile = Field(description="`profile` of GET /v1/host of the other host")


@router.post(
    "/v1/vms/{vm}/compat",
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


class CompatCheckRequest(Record):
    """What to compare with what; `a` and `b` are machines or hosts in any mix."""

    a: CompatOperand = Field(description="what would move")
    b: CompatOperand = Field(description="where it would move to")


class BaselineRequest(Record):
    """The hosts of a fleet."""

    hosts: Annotated[list[HostOperand], Field(min_length=1, max_length=MAX_HOSTS)]


@router.post(
    "/v1/compat/check",
    operation_id="checkCompatPair",
    summary="Check whether a machine or a host's machines fit a host",
    responses={
        **example(200, REPORT_EXAMPLE),
        **errors_of(
            *("not-found", "conflict", "not-owner", "body-too-large", "invalid-request", "idempotency-key-reused"),
            *("request-in-progress", "worker-failed", "peer-failed", "bad-request", "not-ready"),
        ),
    },
)
async def check_pair(
    services: Svc,
    request: Annotated[
        CompatCheckRequest,
        Body(
            openapi_examples=body_examples(
                vm_on_peer={"a": {"vm": "web-1"}, "b": {"peer": "host-b"}},
                host_on_host={"a": {"this_host": True}, "b": {"profile": examples.host_profile()}},
            )
        ),
    ],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> CompatReport:
    """Compare machines and hosts in any mix.

    A machine and a host, in either order: whether the host can hold it. Two hosts: whether `b` can hold every machine
    that `a` can. Two machines: whether every host that holds `b` holds `a`.
    """
    return await services.compat.check(request.a, request.b)


@router.post(
    "/v1/compat/baseline",
    operation_id="makeCompatBaseline",
    summary="Make the largest profile that all hosts can hold",
    responses={
        **example(200, BASELINE_EXAMPLE),
        **errors_of(
            *("not-found", "conflict", "body-too-large", "invalid-request", "idempotency-key-reused"),
            *("request-in-progress", "peer-failed", "bad-request", "not-ready"),
        ),
    },
)
async def make_baseline(
    services: Svc,
    request: Annotated[
        BaselineRequest,
        Body(openapi_examples=body_examples(fleet={"hosts": [{"this_host": True}, {"peer": "host-b"}]})),
    ],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> Baseline:
    """Intersect what the hosts can hold: CPUID, MSRs, XSAVE, events, carriers and sizes."""
    return await services.compat.baseline(request.hosts)
