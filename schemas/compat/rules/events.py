"""kvm_vcpu_events and MP_STATE: which flags a host takes, and what the two vendors make of a shadow."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from ...errors import Severity
from ...uapi.mp_state import MpState
from ...uapi.vcpu_events import VcpuEventFlags as Flags
from ..row import Case, CompatRule, Mismatch, Mismatches, per_vcpu

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
_BOTH = 3
"""MOV SS and STI: what SVM says of its only bit."""


def _flag(flag: int, case: Case) -> Mismatches:
    """An event that is there needs its flag; a flag whose fields are empty can be cleared on the way."""
    if case.host.event_flags & flag == flag:
        return
    for where, vcpu in per_vcpu(
        case.machine, lambda v: bool(v.event_flags & flag & ~case.host.event_flags), "events.flags"
    ):
        refused = vcpu.event_flags & flag & ~case.host.event_flags
        ours, theirs = f"{vcpu.event_flags:#x}", f"{case.host.event_flags:#x}"
        known = int(sum(Flags))
        if used := refused & (vcpu.events_in_use | ~known):
            yield Mismatch(where, f"{used:#x} is in use and the host refuses it", ours, theirs)
        else:
            yield Mismatch(where, f"{refused:#x} is cleared, its fields are empty", ours, theirs, _NOTE)


def _shadows(shadow: int) -> tuple[int, int]:
    return shadow & 0xF, shadow >> 4


def _to_intel(case: Case) -> Mismatches:
    if case.host.vendor != INTEL:
        return
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: _BOTH in _shadows(vcpu.shadow), "events.interrupt.shadow"):
        yield Mismatch(where, f"{vcpu.shadow:#04x}: 3 becomes MOV SS (1)", f"{vcpu.shadow:#04x}", INTEL)


def _to_amd(case: Case) -> Mismatches:
    if case.host.vendor != AMD or case.machine.subject == "host":
        return
    lone = (1, 2)
    for where, vcpu in per_vcpu(
        case.machine, lambda vcpu: any(part in lone for part in _shadows(vcpu.shadow)), "events.interrupt.shadow"
    ):
        yield Mismatch(where, f"{vcpu.shadow:#04x}: a shadow of one kind comes back as 3", f"{vcpu.shadow:#04x}", AMD)


def _error_code(case: Case) -> Mismatches:
    if case.host.vendor != INTEL:
        return
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.error_code > 0xFFFF, "events.exception.error_code"):
        yield Mismatch(where, f"{vcpu.error_code:#x} is cut to 16 bits", f"{vcpu.error_code:#x}", "16 bits")


def _init_and_smi(case: Case) -> Mismatches:
    waiting = (MpState.KVM_MP_STATE_INIT_RECEIVED, MpState.KVM_MP_STATE_SIPI_RECEIVED)
    blocked = per_vcpu(case.machine, lambda v: v.mp_state in waiting and (v.smm or v.smi_pending), "mp_state")
    found = (
        Mismatch(
            where, f"state {v.mp_state} with an SMI pending or in SMM", f"state {v.mp_state}", case.host.kernel_release
        )
        for where, v in blocked
    )
    return case.before_linux(6, 17, found)


def _reset_hold(case: Case) -> Mismatches:
    hold = MpState.KVM_MP_STATE_AP_RESET_HOLD
    found = (
        Mismatch(where, "AP_RESET_HOLD is not known to the host", "AP_RESET_HOLD", case.host.kernel_release)
        for where, _ in per_vcpu(case.machine, lambda vcpu: vcpu.mp_state == hold, "mp_state")
    )
    return case.before_linux(5, 12, found)


class FlagRow(NamedTuple):
    """A flag of kvm_vcpu_events and what its loss means."""

    id: str
    flag: int
    text: str
    why: str
    hint: str


_LATER = "migrate a few instructions later, when it has been delivered"
_OLD = "choose a host with a newer kernel"

FLAG_ROWS: tuple[FlagRow, ...] = (
    FlagRow("CMP-501", Flags.KVM_VCPUEVENT_VALID_NMI_PENDING, "pending NMI", "the NMI is lost", _LATER),
    FlagRow("CMP-502", Flags.KVM_VCPUEVENT_VALID_SIPI_VECTOR, "SIPI vector", "the processor does not start", _LATER),
    FlagRow(
        "CMP-503", Flags.KVM_VCPUEVENT_VALID_SHADOW, "interrupt shadow",
        "an interrupt comes between STI or MOV SS and the instruction that it protects", _LATER,
    ),
    FlagRow("CMP-504", Flags.KVM_VCPUEVENT_VALID_SMM, "SMM and SMI", "the vCPU leaves SMM, or the SMI is lost", _LATER),
    FlagRow(
        "CMP-505", Flags.KVM_VCPUEVENT_VALID_PAYLOAD, "pending exception with payload",
        "the exception, or its CR2 or DR6, is lost", f"enable KVM_CAP_EXCEPTION_PAYLOAD there, or {_LATER}",
    ),
    FlagRow(
        "CMP-506", Flags.KVM_VCPUEVENT_VALID_TRIPLE_FAULT, "pending triple fault",
        "the guest runs on after what must shut it down", "enable KVM_CAP_X86_TRIPLE_FAULT_EVENT there (Linux 6.0)",
    ),
    FlagRow(
        "CMP-008", ~int(sum(Flags)) & 0xFFFFFFFF, "event flag without a name", "KVM_SET_VCPU_EVENTS fails with EINVAL",
        _OLD,
    ),
)  # fmt: skip

_SET = "Linux 6.12 arch/x86/kvm/x86.c kvm_vcpu_ioctl_x86_set_vcpu_events"

EVENT_RULES: tuple[CompatRule, ...] = (
    *(
        CompatRule(row.id, _ERROR, row.text, row.why, row.hint, _SET, partial(_flag, int(row.flag)))
        for row in FLAG_ROWS
    ),
    CompatRule(
        "CMP-507", _NOTE, "interrupt shadow from AMD on Intel",
        "an AMD host does not say which of the two it is; MOV SS also holds back a debug trap", "nothing to do",
        "Linux 6.12 arch/x86/kvm/vmx/vmx.c vmx_set_interrupt_shadow", _to_intel,
    ),
    CompatRule(
        "CMP-508", _NOTE, "interrupt shadow on AMD",
        "SVM has one bit; the shadow holds for the one instruction as before",
        "nothing to do", "Linux 6.12 arch/x86/kvm/svm/svm.c svm_get_interrupt_shadow", _to_amd,
    ),
    CompatRule(
        "CMP-509", _WARNING, "error code", "the guest's handler reads a smaller error code", _LATER,
        "Linux 6.12 arch/x86/kvm/vmx/vmx.c vmx_inject_exception", _error_code,
    ),
    CompatRule(
        "CMP-510", _ERROR, "INIT while SMIs are blocked", "KVM_SET_VCPU_EVENTS or KVM_SET_MP_STATE fails with EINVAL",
        "migrate after RSM, or choose a host with Linux 6.17",
        f"{_SET}; kvm_arch_vcpu_ioctl_set_mpstate; dropped in 6.17", _init_and_smi,
    ),
    CompatRule(
        "CMP-511", _ERROR, "MP state", "KVM_SET_MP_STATE fails with EINVAL", _OLD,
        "Linux 5.12 KVM_MP_STATE_AP_RESET_HOLD on x86", _reset_hold,
    ),
)  # fmt: skip
