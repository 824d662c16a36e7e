"""VM-entry rules of Intel hardware: INV-031 to INV-049. A breach surfaces as KVM_EXIT_FAIL_ENTRY, 0x80000021.

They bind a VMX host alone: KVM on SVM reports every shadow as 3, and the emulator follows the guest where it goes (an
SMI handler may clear IF in the saved flags and RSM then brings back an STI shadow with IF=0).
Source: SDM vol. 3C 27.2.1.3, 27.3.1.
"""

from __future__ import annotations

from ..errors import Severity
from ..state import VcpuState
from ..uapi.mp_state import MpState
from ..uapi.sregs import KvmSegment
from ..uapi.vcpu_events import SHADOW_MASKS, ShadowMask
from .row import INTEL, Check, Details, Invariant

RFLAGS_IF = 1 << 9
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
_MOV_SS, _STI = ShadowMask.KVM_X86_SHADOW_INT_MOV_SS, ShadowMask.KVM_X86_SHADOW_INT_STI


def _both(v: VcpuState) -> Details:
    if v.events.interrupt.shadow.current & SHADOW_MASKS == SHADOW_MASKS:
        yield "shadow 3"


def _sti_without_if(v: VcpuState) -> Details:
    current = v.events.interrupt.shadow.current
    if current & SHADOW_MASKS == _STI and not v.regs.rflags & RFLAGS_IF:
        yield f"shadow {current}, rflags {v.regs.rflags:#x}"


def _interrupt_in_shadow(v: VcpuState) -> Details:
    current = v.events.interrupt.shadow.current
    if current and v.events.interrupt.injected:
        yield f"shadow {current}, injected vector {v.events.interrupt.nr}"


def _nmi_in_shadow(v: VcpuState) -> Details:
    current = v.events.interrupt.shadow.current
    if current & _MOV_SS and v.events.nmi.injected:
        yield f"shadow {current}"


def _nmi_masked(v: VcpuState) -> Details:
    if v.events.nmi.injected and v.events.nmi.masked:
        yield "nmi.injected 1, nmi.masked 1"


def _halted_in_shadow(v: VcpuState) -> Details:
    current = v.events.interrupt.shadow.current
    if current and v.mp_state.mp_state == MpState.KVM_MP_STATE_HALTED:
        yield f"shadow {current}, mp_state HALTED"


def _limits(v: VcpuState) -> Details:
    for name in _SEGMENTS:
        segment: KvmSegment = getattr(v.sregs, name)
        if segment.unusable or not segment.present:
            continue
        low, high = segment.limit & 0xFFF, segment.limit >> 20
        if (segment.g and low != 0xFFF) or (not segment.g and high):
            yield f"{name} limit {segment.limit:#x}, g {segment.g}"


def _bases(v: VcpuState) -> Details:
    for name in ("cs", "ds", "es", "ss"):
        segment: KvmSegment = getattr(v.sregs, name)
        if segment.base >> 32 and not segment.unusable:
            yield f"{name} base {segment.base:#x}"


def _rule(number: int, where: str, text: str, hint: str, check: Check) -> Invariant:
    source = "SDM vol. 3C 27.3.1, 27.2.1.3"
    return Invariant(f"INV-{number:03}", Severity.WARNING, where, text, hint, source, check, host_vendor=INTEL)


_STEP = "run the guest one instruction further"

VM_ENTRY_RULES: tuple[Invariant, ...] = (
    _rule(31, "events.interrupt.shadow", "VMX holds one kind of shadow at a time", "SET takes MOV SS", _both),
    _rule(32, "events.interrupt.shadow", "an STI shadow needs RFLAGS.IF", _STEP, _sti_without_if),
    _rule(33, "events.interrupt", "no interrupt is injected into a shadow", _STEP, _interrupt_in_shadow),
    _rule(34, "events.nmi.injected", "no NMI is injected into a MOV SS shadow", _STEP, _nmi_in_shadow),
    _rule(35, "events.nmi", "an NMI is not injected while NMIs are masked", "leave it pending", _nmi_masked),
    _rule(
        36, "mp_state.mp_state", "a halted vCPU has no shadow", "HLT consumes it: clear the shadow", _halted_in_shadow
    ),
    _rule(37, "sregs", "a segment limit fits its granularity", "set g, or round the limit", _limits),
    _rule(38, "sregs", "CS, DS, ES and SS have 32-bit bases", "clear the upper half", _bases),
)
