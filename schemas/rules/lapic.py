"""Rules on the local APIC and what waits for it: INV-091, INV-098 to INV-100, INV-105, INV-106, INV-220 to INV-230.

KVM_SET_LAPIC takes any page and corrects some registers in it; so most of these say what would not come back.
Source: Linux 6.12 arch/x86/kvm/lapic.c kvm_apic_set_state, kvm_apic_state_fixup; SDM vol. 3A chapter 11.
"""

from __future__ import annotations

import struct

from ..errors import Severity
from ..uapi.mp_state import MpState
from ..uapi.vcpu_events import VcpuEventFlags
from .facts import APIC_BASE_BSP, APIC_BASE_EN, APIC_BASE_EXTD, CpuidBit, VcpuFacts
from .row import Details, Invariant

ID, TPR, LDR, DFR, SPIV = 0x20, 0x80, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR = 0x100, 0x180, 0x200
LVT_CMCI, LVTT, LVT_THERMAL, LVT_PC, LVT0, LVT1, LVT_ERROR = 0x2F0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
TMICT, TMCCT, TDCR = 0x380, 0x390, 0x3E0

LVT_MASKED = 1 << 16
LVT_MODE_EXTINT = 0x700
LVT_BITS = {
    LVT_CMCI: 0x117FF, LVTT: 0x710FF, LVT_THERMAL: 0x117FF, LVT_PC: 0x117FF, LVT0: 0x1F7FF, LVT1: 0x1F7FF,
    LVT_ERROR: 0x110FF,
}  # fmt: skip
"""Local vector table: offset and the bits that exist. Source: SDM vol. 3A figure 11-8; Linux lapic.c apic_lvt_mask."""
SPIV_ENABLED = 1 << 8
SPIV_BITS, TPR_BITS, TDCR_BITS = 0x13FF, 0xFF, 0xB
DFR_ONES = 0x0FFF_FFFF
TIMER_DEADLINE, TIMER_RESERVED = 2, 3
TSC_DEADLINE = CpuidBit(1, 0, "ecx", 24, "TSC_DEADLINE_TIMER")
_MP_STATES = frozenset(MpState)

_U32 = struct.Struct("<I")


def _register(v: VcpuFacts, offset: int) -> int:
    value: int = _U32.unpack_from(v.lapic.regs, offset)[0]
    return value


def _x2apic(v: VcpuFacts) -> bool:
    return v.sregs.apic_base & (APIC_BASE_EN | APIC_BASE_EXTD) == APIC_BASE_EN | APIC_BASE_EXTD


def _timer_mode_of(v: VcpuFacts) -> int:
    return _register(v, LVTT) >> 17 & 3


def _mp_state(v: VcpuFacts) -> Details:
    if v.mp_state.mp_state not in _MP_STATES:
        yield f"mp_state {v.mp_state.mp_state}"


def _timer_mode(v: VcpuFacts) -> Details:
    if _timer_mode_of(v) == TIMER_RESERVED:
        yield f"LVTT {_register(v, LVTT):#x}"


def _tpr(v: VcpuFacts) -> Details:
    tpr = _register(v, TPR)
    if tpr >> 4 & 15 != v.sregs.cr8 & 15:
        yield f"cr8 {v.sregs.cr8:#x}, TPR {tpr:#x}"


def _low_vectors(v: VcpuFacts) -> Details:
    for name, offset in (("ISR", ISR), ("TMR", TMR), ("IRR", IRR)):
        if low := _register(v, offset) & 0xFFFF:
            yield f"{name} {low:#x}"


def _sipi(v: VcpuFacts) -> Details:
    flag = VcpuEventFlags.KVM_VCPUEVENT_VALID_SIPI_VECTOR
    if v.mp_state.mp_state == MpState.KVM_MP_STATE_SIPI_RECEIVED and not v.events.has(flag):
        yield f"flags {v.events.flags:#x}"


def _bsp_waits(v: VcpuFacts) -> Details:
    waits = (MpState.KVM_MP_STATE_UNINITIALIZED, MpState.KVM_MP_STATE_INIT_RECEIVED)
    if v.mp_state.mp_state in waits and v.sregs.apic_base & APIC_BASE_BSP:
        yield f"mp_state {v.mp_state.mp_state}, apic_base {v.sregs.apic_base:#x}"


def _x2apic_id(v: VcpuFacts) -> Details:
    held = _register(v, ID)
    if _x2apic(v) and held not in (v.index, v.index << 24):
        yield f"ID {held:#x}, vCPU {v.index}"


def _initial_id(v: VcpuFacts) -> Details:
    leaf, held = v.leaf(1), _register(v, ID)
    if leaf is not None and not _x2apic(v) and leaf.ebx >> 24 != held >> 24:
        yield f"ID {held >> 24}, CPUID leaf 1 says {leaf.ebx >> 24}"


def _reserved_bits(v: VcpuFacts) -> Details:
    for name, offset, known in (("TPR", TPR, TPR_BITS), ("SPIV", SPIV, SPIV_BITS), ("TDCR", TDCR, TDCR_BITS)):
        if extra := _register(v, offset) & ~known:
            yield f"{name} {_register(v, offset):#x}: {extra:#x}"
    for offset, known in LVT_BITS.items():
        if extra := _register(v, offset) & ~known:
            yield f"LVT at {offset:#x} {_register(v, offset):#x}: {extra:#x}"


def _disabled(v: VcpuFacts) -> Details:
    """Check all but LINT0 as ExtINT, which KVM leaves open at reset (LINT0_REENABLED)."""
    if _register(v, SPIV) & SPIV_ENABLED or not v.sregs.apic_base & APIC_BASE_EN:
        return
    for offset in LVT_BITS:
        held = _register(v, offset)
        if held and not held & LVT_MASKED and not (offset == LVT0 and held & 0x700 == LVT_MODE_EXTINT):
            yield f"LVT at {offset:#x} is {held:#x}, SPIV {_register(v, SPIV):#x}"


def _deadline_feature(v: VcpuFacts) -> Details:
    if _timer_mode_of(v) == TIMER_DEADLINE and v.features_known and not v.has(TSC_DEADLINE):
        yield f"LVTT {_register(v, LVTT):#x}"


def _timer_count(v: VcpuFacts) -> Details:
    if _timer_mode_of(v) != TIMER_DEADLINE and _register(v, TMCCT) > _register(v, TMICT):
        yield f"TMCCT {_register(v, TMCCT):#x}, TMICT {_register(v, TMICT):#x}"


def _logical_id(v: VcpuFacts) -> Details:
    held, number = _register(v, LDR), _register(v, ID)
    number = number if number == v.index else number >> 24
    if _x2apic(v) and held != (number >> 4 << 16 | 1 << (number & 15)):
        yield f"LDR {held:#x}, ID {number:#x}"


def _dfr(v: VcpuFacts) -> Details:
    held = _register(v, DFR)
    if not _x2apic(v) and held & DFR_ONES != DFR_ONES:
        yield f"DFR {held:#x}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_FIXUP = "Linux 6.12 lapic.c kvm_apic_state_fixup"

LAPIC_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-091", _E, "mp_state.mp_state", "mp_state is a value of x86", "0, 1, 2, 3, 4 or 9",
        "Linux 6.12 …_set_mpstate: EINVAL", _mp_state,
    ),
    Invariant(
        "INV-098", _W, "lapic.regs", "LVTT timer mode 3 is reserved", "use 0, 1 or 2", "SDM vol. 3A 11.5.1", _timer_mode
    ),
    Invariant("INV-099", _W, "lapic.regs", "TPR and CR8 agree", "TPR wins", "SDM vol. 3A 11.8.6", _tpr),
    Invariant(
        "INV-100", _W, "lapic.regs", "vectors 0-15 are never delivered", "clear them", "SDM vol. 3A 11.5.2",
        _low_vectors,
    ),
    Invariant(
        "INV-105", _W, "events.flags", "SIPI_RECEIVED needs the SIPI vector, or the vCPU starts at 0",
        "set flag 0x02 and sipi_vector", "Linux 6.12 …_set_mpstate; GET never reports the vector", _sipi,
    ),
    Invariant(
        "INV-106", _W, "mp_state.mp_state", "the bootstrap processor does not wait for SIPI", "set mp_state 0",
        "Linux 6.12 lapic.c kvm_apic_accept_events; SDM vol. 3A 9.4.3", _bsp_waits,
    ),
    Invariant(
        "INV-220", _W, "lapic.regs", "in x2APIC mode the APIC ID is the vCPU's number", "KVM puts it right",
        f"{_FIXUP}; with X2APIC_API: EINVAL", _x2apic_id,
    ),
    Invariant(
        "INV-221", _N, "lapic.regs", "the APIC ID is the one that CPUID tells", "nothing to do if the guest changed it",
        "SDM vol. 3A 11.4.6", _initial_id,
    ),
    Invariant(
        "INV-222", _W, "lapic.regs", "reserved bits of TPR, SPIV, TDCR and LVT are 0", "clear them",
        "SDM vol. 3A 11.5.1; Linux 6.12 lapic.c apic_lvt_mask", _reserved_bits,
    ),
    Invariant(
        "INV-223", _W, "lapic.regs", "a disabled local APIC has its LVT masked", "set bit 16, or SPIV bit 8",
        "SDM vol. 3A 11.4.7.2", _disabled,
    ),
    Invariant(
        "INV-224", _W, "lapic.regs", "the timer's deadline mode needs its CPUID feature", "offer TSC_DEADLINE_TIMER",
        "Linux 6.12 lapic.c apic_update_lvtt: another mode", _deadline_feature,
    ),
    Invariant(
        "INV-225", _W, "lapic.regs", "the timer counts down from its initial count", "KVM cuts TMCCT to TMICT",
        "Linux 6.12 lapic.c set_target_expiration", _timer_count,
    ),
    Invariant(
        "INV-226", _N, "lapic.regs", "in x2APIC mode the logical ID follows the APIC ID", "KVM puts it right",
        f"{_FIXUP}; SDM vol. 3A 11.12.10.2", _logical_id,
    ),
    Invariant(
        "INV-227", _N, "lapic.regs", "DFR bits 0-27 read as 1", "set them", "SDM vol. 3A figure 11-14", _dfr
    ),
)  # fmt: skip
