"""Routes that act on a VM's execution: run, pause, step, and the events from outside (SMI, NMI, interrupt)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request
from pydantic import Field

from migsvc.api import examples
from migsvc.api.docs import Responses, body_examples, errors_of, example
from migsvc.api.params import IdempotencyKey, IfMatch, Svc, VmRef, epoch_etag, require_match, unless_closing
from migsvc.api.strict_json import StrictRoute
from migsvc.service.records import PauseWhen, Record, StepResult, VmRecord

MAX_STEP_INSTRUCTIONS = 10_000_000
"""The call waits for the emulation; this many instructions take tens of seconds."""


class PauseRequest(Record):
    """When to pause."""

    when: PauseWhen = Field(default=PauseWhen.ANY, description="the architectural moment to wait for")
    limit_instructions: int = Field(
        default=50_000_000, ge=1, le=1 << 40, description="give up after this many; the VM is then paused where it is"
    )


class StepRequest(Record):
    """How far to step."""

    instructions: int = Field(default=1, ge=1, le=MAX_STEP_INSTRUCTIONS, description="exactly this many")


class InterruptRequest(Record):
    """An external interrupt."""

    vector: int = Field(ge=0, le=255, description="vector of the interrupt descriptor table")


async def _guarded_vm(
    services: Svc,
    vm: VmRef,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - the Idempotency middleware acts on it
) -> str:
    """Check If-Match; shared by every action."""
    if if_match is not None:
        require_match(if_match, epoch_etag((await services.vms.get(vm)).epoch))
    return vm


ActionVm = Annotated[str, Depends(_guarded_vm)]

router = APIRouter(prefix="/v1/vms/{vm}", tags=["vms"], route_class=StrictRoute)


def _responses(answer: object) -> Responses:
    return {
        **example(200, answer),
        **errors_of(
            *("not-found", "conflict", "not-owner", "request-in-progress", "precondition-failed", "body-too-large"),
            *(
                "invalid-request",
                "idempotency-key-reused",
                "limit-exceeded",
                "worker-failed",
                "not-ready",
                "bad-request",
            ),
        ),
    }


@router.post("/run", operation_id="runVm", summary="Let a VM run", responses=_responses(examples.VM))
async def run_vm(services: Svc, vm: ActionVm) -> VmRecord:
    """Let the VM run until it is paused, halts for good or stops."""
    return await services.vms.run(vm)


@router.post("/pause", operation_id="pauseVm", summary="Pause a VM", responses=_responses(examples.PAUSED_VM))
async def pause_vm(
    services: Svc,
    http: Request,
    vm: ActionVm,
    request: Annotated[
        PauseRequest | None,
        Body(openapi_examples=body_examples(now={"when": "any"}, inside_the_smi_handler={"when": "smm_shadow"})),
    ] = None,
) -> VmRecord:
    """Pause the VM at the next instruction boundary at which `when` holds, e.g. in SMM with a shadow set aside."""
    wanted = request or PauseRequest()
    return await unless_closing(http, services.vms.pause(vm, wanted.when, wanted.limit_instructions))


@router.post("/step", operation_id="stepVm", summary="Run exactly n instructions", responses=_responses(examples.STEP))
async def step_vm(
    services: Svc,
    vm: ActionVm,
    request: Annotated[
        StepRequest | None, Body(openapi_examples=body_examples(one={"instructions": 1}, many={"instructions": 1000}))
    ] = None,
) -> StepResult:
    """Run exactly n instructions of a paused VM; fewer only if it halts or stops, and `reason` says so."""
    return await services.vms.step(vm, (request or StepRequest()).instructions)


@router.post("/smi", operation_id="injectSmi", summary="Make an SMI pending", responses=_responses(examples.VM))
async def inject_smi(services: Svc, vm: ActionVm) -> VmRecord:
    """Make a system management interrupt pending; it is taken at the next boundary outside SMM."""
    return await services.vms.smi(vm)


@router.post("/nmi", operation_id="injectNmi", summary="Make an NMI pending", responses=_responses(examples.VM))
async def inject_nmi(services: Svc, vm: ActionVm) -> VmRecord:
    """Make a non-maskable interrupt pending; a shadow, SMM and an unfinished NMI hold it back."""
    return await services.vms.nmi(vm)


@router.post(
    "/interrupt",
    operation_id="injectInterrupt",
    summary="Ask for an external interrupt",
    responses=_responses(examples.VM),
)
async def inject_interrupt(
    services: Svc,
    vm: ActionVm,
    request: Annotated[InterruptRequest, Body(openapi_examples=body_examples(timer={"vector": 32}))],
) -> VmRecord:
    """Ask for an external interrupt with that vector; it is taken when IF is set and no shadow is in force."""
    return await services.vms.interrupt(vm, request.vector)
