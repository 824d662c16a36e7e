"""VM-entry rules of Intel hardware on events and modes: INV-031 to INV-049. A breach surfaces as KVM_EXIT_FAIL_ENTRY.

They bind a VMX host alone: KVM on SVM reports every shadow as 3, and the emulator follows the guest where it goes (an
SMI handler may clear IF in the saved flags and RSM then brings back an STI shadow with IF=0). What SVM refuses at VMRUN
(APM vol. 2 15.5.1) no guest can bring about, so it is among the rules on registers.
Source: SDM vol. 3C 27.2.1.3, 27.3.1; hardware_entry_failure_reason 0x80000021.
"""

from __future__ import annotations

from ..errors import Severity
from ..uapi.mp_state import MpState
from ..uapi.vcpu_events import SHADOW_MASKS, ShadowMask
from .facts import CR4_VMXE, RFLAGS_IF, VcpuFacts
from .row import INTEL, Check, Details, Invariant

_MOV_SS, _STI = ShadowMask.KVM_X86_SHADOW_INT_MOV_SS, ShadowMask.KVM_X86_SHADOW_INT_STI


def _both(v: VcpuFacts) -> Details:
    if v.events.interrupt.shadow.current & SHADOW_MASKS == SHADOW_MASKS:
        yield "shadow 3"


def _sti_without_if(v: VcpuFacts) -> Details:
    current = v.events.interrupt.shadow.current
    if current & SHADOW_MASKS == _STI and not v.regs.rflags & RFLAGS_IF:
        yield f"shadow {current}, rflags {v.regs.rflags:#x}"


def _interrupt_in_shadow(v: VcpuFacts) -> Details:
    current = v.events.interrupt.shadow.current
    if current and v.events.interrupt.injected:
        yield f"shadow {current}, injected vector {v.events.interrupt.nr}"


def _nmi_in_shadow(v: VcpuFacts) -> Details:
    current = v.events.interrupt.shadow.current
    if current & _MOV_SS and v.events.nmi.injected:
        yield f"shadow {current}"


def _nmi_masked(v: VcpuFacts) -> Details:
    if v.events.nmi.injected and v.events.nmi.masked:
        yield "nmi.injected 1, nmi.masked 1"


def _halted_in_shadow(v: VcpuFacts) -> Details:
    current = v.events.interrupt.shadow.current
    if current and v.mp_state.mp_state == MpState.KVM_MP_STATE_HALTED:
        yield f"shadow {current}, mp_state HALTED"


def _halted_in_user_mode(v: VcpuFacts) -> Details:
    if v.mp_state.mp_state == MpState.KVM_MP_STATE_HALTED and v.sregs.ss.dpl and not v.sregs.ss.unusable:
        yield f"mp_state HALTED, ss.dpl {v.sregs.ss.dpl}"


def _interrupt_without_if(v: VcpuFacts) -> Details:
    interrupt = v.events.interrupt
    if interrupt.injected and not interrupt.soft and not v.regs.rflags & RFLAGS_IF:
        yield f"injected vector {interrupt.nr}, rflags {v.regs.rflags:#x}"


def _vmxe_in_smm(v: VcpuFacts) -> Details:
    if v.in_smm and v.sregs.cr4 & CR4_VMXE:
        yield f"smi.smm 1, cr4 {v.sregs.cr4:#x}"


def _rule(
    number: int, where: str, text: str, hint: str, check: Check, source: str = "SDM vol. 3C 27.3.1, 27.2.1.3"
) -> Invariant:
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
    _rule(
        39, "mp_state.mp_state", "a halted vCPU is at CPL 0", "HLT needs CPL 0: set mp_state 0", _halted_in_user_mode
    ),
    _rule(40, "events.interrupt", "an interrupt is injected only with RFLAGS.IF", _STEP, _interrupt_without_if),
    _rule(
        49, "sregs.cr4", "CR4.VMXE is 0 in SMM", "SMI entry clears it: clear bit 13", _vmxe_in_smm,
        "Linux 6.12 vmx.c vmx_is_valid_cr4: EINVAL; SDM vol. 3C 33.14.1",
    ),
)  # fmt: skip
