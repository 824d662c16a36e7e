"""In which mode a vCPU is: what the first line of its page says."""

from __future__ import annotations

from enum import StrEnum

from ..names.mp_states import MP_STATES
from ..shadow import in_smm, smm_shadow
from ..state import VcpuState
from ..uapi.nested_state import NestedFormat
from ..uapi.vcpu_events import VcpuEventFlags

CR0_PE, CR0_PG = 1 << 0, 1 << 31
CR4_PAE, CR4_LA57 = 1 << 5, 1 << 12
EFER_LMA = 1 << 10
RFLAGS_IF, RFLAGS_VM = 1 << 9, 1 << 17

SHADOW_TEXTS = {0: "none", 1: "MOV SS", 2: "STI", 3: "STI and MOV SS"}


class Mode(StrEnum):
    """The operating modes of x86. Source: SDM vol. 3A 2.2; APM vol. 2 1.2."""

    REAL = "real mode"
    VIRTUAL_8086 = "virtual-8086 mode"
    PROTECTED_16 = "16-bit protected mode"
    PROTECTED_32 = "32-bit protected mode"
    COMPATIBILITY_16 = "16-bit compatibility mode"
    COMPATIBILITY_32 = "32-bit compatibility mode"
    LONG_64 = "64-bit long mode"


class Paging(StrEnum):
    """How linear addresses are translated. Source: SDM vol. 3A 4.1.1."""

    OFF = "paging off"
    LEGACY = "32-bit paging"
    PAE = "PAE paging"
    FOUR_LEVEL = "4-level paging"
    FIVE_LEVEL = "5-level paging"


def mode_of(vcpu: VcpuState) -> Mode:
    """Return the operating mode."""
    sregs = vcpu.sregs
    if not sregs.cr0 & CR0_PE:
        return Mode.REAL
    if sregs.efer & EFER_LMA:
        if sregs.cs.l:
            return Mode.LONG_64
        return Mode.COMPATIBILITY_32 if sregs.cs.db else Mode.COMPATIBILITY_16
    if vcpu.regs.rflags & RFLAGS_VM:
        return Mode.VIRTUAL_8086
    return Mode.PROTECTED_32 if sregs.cs.db else Mode.PROTECTED_16


def paging_of(vcpu: VcpuState) -> Paging:
    """Return the paging mode."""
    sregs = vcpu.sregs
    if not sregs.cr0 & CR0_PG:
        return Paging.OFF
    if sregs.efer & EFER_LMA:
        return Paging.FIVE_LEVEL if sregs.cr4 & CR4_LA57 else Paging.FOUR_LEVEL
    return Paging.PAE if sregs.cr4 & CR4_PAE else Paging.LEGACY


def cpl_of(vcpu: VcpuState) -> int:
    """Return the current privilege level: DPL of SS, as VMX and SVM keep it; 0 in real and 3 in virtual-8086 mode."""
    mode = mode_of(vcpu)
    if mode is Mode.REAL:
        return 0
    return 3 if mode is Mode.VIRTUAL_8086 else vcpu.sregs.ss.dpl & 3


def is_64_bit(vcpu: VcpuState) -> bool:
    """Return whether the upper halves of registers can hold anything that counts."""
    return bool(vcpu.sregs.efer & EFER_LMA)


def has_long_mode(vcpu: VcpuState) -> bool:
    """Return whether CPUID gives the guest long mode: it decides which SMRAM map an SMI writes."""
    leaf = vcpu.cpuid2.leaf(0x80000001)
    return leaf is not None and bool(leaf.edx >> 29 & 1)


def shadow_aside(vcpu: VcpuState) -> str:
    """Return the interrupt shadow that an SMI put aside, in words; it may travel in another carrier than the events."""
    if not vcpu.events.has(VcpuEventFlags.KVM_VCPUEVENT_VALID_SMM_SHADOW):
        return "not in the events"
    return SHADOW_TEXTS[smm_shadow(vcpu.events)]


def mode_line(vcpu: VcpuState) -> str:
    """Return "64-bit long mode, CPL 0, 4-level paging, interrupts on, in SMM (shadow aside: STI)"."""
    words = [str(mode_of(vcpu)), f"CPL {cpl_of(vcpu)}", str(paging_of(vcpu))]
    words.append("interrupts on" if vcpu.regs.rflags & RFLAGS_IF else "interrupts off")
    held = vcpu.events.normalised()
    if held.interrupt.shadow.current:
        words.append(f"in the shadow of {SHADOW_TEXTS[held.interrupt.shadow.current & 3]}")
    if in_smm(vcpu.events):
        words.append(f"in SMM (shadow aside: {shadow_aside(vcpu)})")
    if held.nmi.masked:
        words.append("NMIs masked")
    nested = vcpu.nested_state
    if nested is not None and nested.guest_mode:
        words.append("in L2 of " + ("SVM" if nested.format == NestedFormat.KVM_STATE_NESTED_FORMAT_SVM else "VMX"))
    if held.triple_fault.pending:
        words.append("triple fault pending")
    if vcpu.mp_state.mp_state:
        words.append(MP_STATES.get(vcpu.mp_state.mp_state, ("", f"mp_state {vcpu.mp_state.mp_state:#x}"))[1])
    return ", ".join(words)
