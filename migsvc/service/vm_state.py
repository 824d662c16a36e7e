"""What a worker says of a machine, as the schemas' models, and the refusal of what is not legal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from migsvc.errors import ConflictError, IllegalStateError, WorkerError
from migsvc.service.records import PauseWhen, VmStatus
from migsvc.service.registry import LiveVm
from schemas.compat import HostProfile
from schemas.errors import Finding, SchemaError, Severity
from schemas.invariants import check_state, errors_of
from schemas.memory import MemoryMap
from schemas.state import MachineState, VcpuState

PAUSE_TIMEOUT_S = 600.0
"""A search for an architectural moment is bounded by its number of instructions; this is for a stuck worker."""


async def pause_worker(live: LiveVm, when: PauseWhen, limit_instructions: int) -> None:
    """Pause a worker's VM at a moment.

    Raises:
        ConflictError: there is no such moment within the limit; the VM goes on as before.
    """
    answer = await live.handle.call(
        "pause", timeout_s=PAUSE_TIMEOUT_S, when=str(when), limit_instructions=limit_instructions
    )
    if not answer["found"]:
        raise ConflictError(
            f"VM {live.name} came to no moment {when!s} within {answer['steps']} instructions ({answer['reason']})",
            hint="the VM goes on as before; raise the limit, or choose another moment",
            steps=answer["steps"],
            reason=answer["reason"],
        )


async def sample(live: LiveVm, epoch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `save` and `describe` say of a VM; a running one stands still for that moment. Hold its lock."""
    running = (await live.handle.call("status"))["status"] in (VmStatus.RUNNING, VmStatus.HALTED)
    if running:
        await live.handle.call("pause")
    try:
        return await live.handle.call("save"), await live.handle.call("describe")
    finally:
        if running:
            await live.handle.call("run", epoch=epoch)


def memory_map(described: Mapping[str, Any]) -> MemoryMap:
    """Return the memory map in a worker's description."""
    return MemoryMap.model_validate(described["memory"])


def machine_state(memory: MemoryMap, saved: Mapping[str, Any]) -> MachineState:
    """Return the models of what a worker saved.

    Raises:
        WorkerError: they are no machine.
    """
    try:
        return MachineState.from_sections(memory, saved["vm"], saved["vcpus"])
    except (SchemaError, ValueError) as error:
        raise WorkerError(f"the worker saved a state that is no machine: {error}") from error


def require_known_flags(state: VcpuState, profile: HostProfile) -> None:
    """Refuse event flags that this host does not accept, as KVM_SET_VCPU_EVENTS does.

    Raises:
        IllegalStateError: with the finding.
    """
    unknown = state.events.flags & ~profile.event_flags
    if unknown:
        finding = Finding(
            rule="HOST",
            severity=Severity.ERROR,
            where=f"vcpus.{state.index}.events.flags",
            message=f"{unknown:#x} is not accepted here: {profile.name} accepts {profile.event_flags:#x}",
            hint="convert the state first: migsvc state convert --carrier smram",
        )
        raise IllegalStateError(
            "the state has event flags that this host does not know", [finding.model_dump(mode="json")]
        )


def require_legal(state: VcpuState | MachineState) -> None:
    """Refuse a state that breaks the rules.

    Raises:
        IllegalStateError: with every finding.
    """
    found = errors_of(check_state(state))
    if found:
        raise IllegalStateError(
            f"the state breaks {len(found)} rule{'s' if len(found) > 1 else ''}; nothing was applied",
            [finding.model_dump(mode="json") for finding in found],
            hint="each finding says where and what to do",
        )
