"""What a reader of a migration or a snapshot wants to see of each vCPU: where it is, in SMM or not, which shadows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.codec.sections import LazyVcpu
from schemas.state import VmState
from schemas.uapi.vcpu_events import ShadowMask

SHADOW_NAMES: Mapping[int, str] = {
    0: "none",
    ShadowMask.KVM_X86_SHADOW_INT_MOV_SS: "mov_ss",
    ShadowMask.KVM_X86_SHADOW_INT_STI: "sti",
    ShadowMask.KVM_X86_SHADOW_INT_MOV_SS | ShadowMask.KVM_X86_SHADOW_INT_STI: "sti+mov_ss",
}
"""Words for the masks; KVM on AMD reports any shadow as both."""


def carried_summary(vm: Mapping[str, bytes], vcpus: Sequence[Mapping[str, bytes]]) -> list[dict[str, Any]]:
    """Return one JSON object per vCPU: rip, smm, shadow, smm_shadow, retired_instructions, console_bytes.

    Raises:
        SchemaError: the sections are not those of a machine.
    """
    shared = VmState.from_sections(vm)
    counts = {
        "retired_instructions": None if shared.machine is None else shared.machine.retired_instructions,
        "console_bytes": None if shared.serial is None else shared.serial.tx_bytes,
    }
    return [{**_one(LazyVcpu(sections, index=i)), **counts} for i, sections in enumerate(vcpus)]


def _one(state: LazyVcpu) -> dict[str, Any]:
    shadow = state.events.interrupt.shadow
    return {
        "vcpu": state.index,
        "rip": f"{state.regs.rip:#x}",
        "smm": bool(state.events.smi.smm),
        "shadow": SHADOW_NAMES.get(shadow.current, f"{shadow.current:#x}"),
        "smm_shadow": SHADOW_NAMES.get(shadow.smm, f"{shadow.smm:#x}"),
        "flags": f"{int(state.events.flags):#x}",
    }
