"""Rules on general and control registers: INV-050 to INV-079; those that CPUID decides are in `features`.

KVM_SET_SREGS refuses most of these with EINVAL (Linux 6.12 regs.c kvm_is_valid_sregs), VMRUN on AMD hardware refuses
what APM vol. 2 15.5.1 lists; a guest can bring none about.
"""

from __future__ import annotations

from ..errors import Severity
from ..uapi.sregs import SpecialRegisters
from ..uapi.sregs2 import KVM_SREGS2_FLAGS_PDPTRS_VALID
from .facts import (
    APIC_BASE_EN,
    APIC_BASE_EXTD,
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_CET,
    CR4_PAE,
    CR4_PCIDE,
    EFER_LMA,
    EFER_LME,
    RFLAGS_VM,
    VcpuFacts,
)
from .row import INTEL, At, Details, Invariant

RFLAGS_FIXED = 1 << 1

CR4_KNOWN = 0x1_1BFF_7FFF
"""VME to PKS, UINTR, LASS, LAM_SUP, FRED. Source: SDM vol. 3A 2.5, APM vol. 2 3.1.3."""
EFER_KNOWN = 0x0026_FD01
"""SCE, LME, LMA, NXE, SVME, LMSLE, FFXSR, TCE, MCOMMIT, INTWB, AIBRSE. Source: APM vol. 2 3.1.7."""
CR3_RESERVED = 0x9FF << 52
"""Above the 52 bits of a physical address, except LAM_U57 and LAM_U48 (61, 62)."""
RFLAGS_RESERVED = ~0x003F_7FD7 & (1 << 64) - 1
"""Bits 3, 5, 15 and 22 up. Source: SDM vol. 1 3.4.3."""
CR0_KNOWN = 0xE005_003F
"""PE to NE, WP, AM, NW, CD, PG. Source: SDM vol. 3A 2.5."""
PDPTE_RESERVED = 0x1E6
"""Bits 1, 2 and 5 to 8. Source: SDM vol. 3A table 4-8; Linux 6.12 x86.c pdptr_rsvd_bits."""
APIC_BASE_RESERVED = 0x2FF | 0xFFF << 52


def in_64_bit_mode(v: VcpuFacts) -> bool:
    """Return whether the vCPU executes 64-bit code."""
    return bool(v.sregs.efer & EFER_LMA and v.sregs.cs.l)


def _rflags_fixed(v: VcpuFacts) -> Details:
    if not v.regs.rflags & RFLAGS_FIXED:
        yield f"rflags {v.regs.rflags:#x}"


def _rflags_reserved(v: VcpuFacts) -> Details:
    if v.regs.rflags & RFLAGS_RESERVED:
        yield f"rflags {v.regs.rflags:#x}"


def _rflags_vm(v: VcpuFacts) -> Details:
    if v.regs.rflags & RFLAGS_VM and (v.sregs.efer & EFER_LMA or not v.sregs.cr0 & CR0_PE):
        yield f"rflags {v.regs.rflags:#x}, cr0 {v.sregs.cr0:#x}, efer {v.sregs.efer:#x}"


def _rip_wide(v: VcpuFacts) -> Details:
    """Check bits 63:N only: RIP may stand one behind the last canonical byte, where the fetch will fault."""
    width = v.linear_bits
    if in_64_bit_mode(v) and v.regs.rip >> width not in (0, (1 << (64 - width)) - 1):
        yield f"rip {v.regs.rip:#x}"


def _rip_narrow(v: VcpuFacts) -> Details:
    if not in_64_bit_mode(v) and v.regs.rip >> 32:
        yield f"rip {v.regs.rip:#x}"


def _cr0(v: VcpuFacts) -> Details:
    cr0 = v.sregs.cr0
    if cr0 >> 32:
        yield f"cr0 {cr0:#x}: upper half set"
    if cr0 & CR0_NW and not cr0 & CR0_CD:
        yield f"cr0 {cr0:#x}: NW without CD"
    if cr0 & CR0_PG and not cr0 & CR0_PE:
        yield f"cr0 {cr0:#x}: PG without PE"


def _cr4(v: VcpuFacts) -> Details:
    if unknown := v.sregs.cr4 & ~CR4_KNOWN:
        yield f"cr4 {v.sregs.cr4:#x}: {unknown:#x}"


def _pcide(v: VcpuFacts) -> Details:
    if v.sregs.cr4 & CR4_PCIDE and not v.sregs.efer & EFER_LMA:
        yield f"cr4 {v.sregs.cr4:#x}, efer {v.sregs.efer:#x}"


def _efer_bits(v: VcpuFacts) -> Details:
    if unknown := v.sregs.efer & ~EFER_KNOWN:
        yield f"efer {v.sregs.efer:#x}: {unknown:#x}"


def _long_mode(v: VcpuFacts) -> Details:
    s = v.sregs
    active = bool(s.efer & EFER_LME and s.cr0 & CR0_PG)
    if bool(s.efer & EFER_LMA) != active:
        yield f"efer {s.efer:#x}, cr0 {s.cr0:#x}: LMA must equal LME and PG"
    if active and not s.cr4 & CR4_PAE:
        yield f"cr4 {s.cr4:#x}: long mode needs PAE"


def _cs_l(v: VcpuFacts) -> Details:
    if v.sregs.cs.l and not v.sregs.efer & EFER_LMA:
        yield f"cs.l 1, efer {v.sregs.efer:#x}"


def _cs_l_db(v: VcpuFacts) -> Details:
    if v.sregs.cs.l and v.sregs.cs.db:
        yield "cs.l 1, cs.db 1"


def _cr3(v: VcpuFacts) -> Details:
    if v.sregs.cr3 & CR3_RESERVED:
        yield f"cr3 {v.sregs.cr3:#x}"


def _cr8(v: VcpuFacts) -> Details:
    if v.sregs.cr8 > 15:
        yield f"cr8 {v.sregs.cr8:#x}"


def _apic_base(v: VcpuFacts) -> Details:
    base = v.sregs.apic_base
    if base & APIC_BASE_EXTD and not base & APIC_BASE_EN:
        yield f"apic_base {base:#x}: EXTD without EN"
    if base & APIC_BASE_RESERVED:
        yield f"apic_base {base:#x}: reserved bits {base & APIC_BASE_RESERVED:#x}"


def _sregs2_agrees(v: VcpuFacts) -> Details:
    if v.sregs2 is None:
        return
    one, other = v.sregs.__dict__, v.sregs2.__dict__
    for name in SpecialRegisters.model_fields:
        here, there = one[name], other[name]
        # The fields of a segment, not the models: Pydantic's own comparison takes ten times as long.
        if here != there if isinstance(here, int) else here.__dict__ != there.__dict__:
            yield At(f"sregs2.{name}", f"{name} differs")


def _sregs2_flags(v: VcpuFacts) -> Details:
    if v.sregs2 is not None and v.sregs2.flags & ~KVM_SREGS2_FLAGS_PDPTRS_VALID:
        yield f"flags {v.sregs2.flags:#x}"


def _cet(v: VcpuFacts) -> Details:
    if v.sregs.cr4 & CR4_CET and not v.sregs.cr0 & CR0_WP:
        yield f"cr4 {v.sregs.cr4:#x}, cr0 {v.sregs.cr0:#x}"


def _cr0_reserved(v: VcpuFacts) -> Details:
    if reserved := v.sregs.cr0 & 0xFFFFFFFF & ~CR0_KNOWN:
        yield f"cr0 {v.sregs.cr0:#x}: {reserved:#x}"


def _cr0_et(v: VcpuFacts) -> Details:
    if not v.sregs.cr0 & CR0_ET:
        yield f"cr0 {v.sregs.cr0:#x}"


def _pdpte_bits(v: VcpuFacts) -> Details:
    s = v.sregs2
    if s is None or not s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID:
        return
    reserved = PDPTE_RESERVED | (1 << 64) - (1 << v.physical_bits)
    for number, entry in enumerate(s.pdptrs):
        if entry & 1 and entry & reserved:
            yield At(f"sregs2.pdptrs.{number}", f"pdptrs[{number}] {entry:#x}, MAXPHYADDR {v.physical_bits}")


def _pdptrs(v: VcpuFacts) -> Details:
    s = v.sregs2
    if s is None or not s.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID:
        return
    if not (s.cr0 & CR0_PG and s.cr4 & CR4_PAE) or s.efer & EFER_LMA:
        yield f"PDPTRS_VALID, cr0 {s.cr0:#x}, cr4 {s.cr4:#x}, efer {s.efer:#x}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_SREGS = "Linux 6.12 regs.c kvm_is_valid_sregs: EINVAL"
_ENTRY = "SDM vol. 3C 27.3.1"
_VMRUN = "APM vol. 2 15.5.1: VMEXIT_INVALID"

REGISTER_RULES: tuple[Invariant, ...] = (
    Invariant("INV-050", _E, "regs.rflags", "RFLAGS bit 1 is 1", "set it", "SDM vol. 1 3.4.3", _rflags_fixed),
    Invariant(
        "INV-051", _E, "regs.rflags", "RFLAGS bits 3, 5, 15 and 22 up are 0", "clear them", _ENTRY,
        _rflags_reserved,
    ),
    Invariant(
        "INV-052", _E, "regs.rflags", "VM86 only in protected mode and outside long mode", "clear VM", _ENTRY,
        _rflags_vm,
    ),
    Invariant("INV-053", _E, "regs.rip", "in 64-bit mode RIP is canonical", "sign-extend it", _ENTRY, _rip_wide),
    Invariant(
        "INV-054", _E, "regs.rip", "outside 64-bit mode RIP has 32 bits", "clear the upper half", _ENTRY, _rip_narrow
    ),
    Invariant("INV-055", _E, "sregs.cr0", "CR0 is a legal combination", "SDM vol. 3A 2.5", f"{_SREGS}; {_VMRUN}", _cr0),
    Invariant("INV-056", _E, "sregs.cr4", "CR4 has known bits only", "clear the others", _SREGS, _cr4),
    Invariant("INV-057", _E, "sregs.cr4", "PCIDE needs long mode", "clear bit 17", _ENTRY, _pcide),
    Invariant("INV-058", _E, "sregs.efer", "EFER has known bits only", "clear the others", _SREGS, _efer_bits),
    Invariant(
        "INV-059", _E, "sregs.efer", "LMA, LME, PG and PAE agree", "LMA = LME and PG", f"{_SREGS}; {_VMRUN}",
        _long_mode,
    ),
    Invariant("INV-060", _E, "sregs.cs.l", "a 64-bit code segment only in long mode", "clear cs.l", _SREGS, _cs_l),
    Invariant(
        "INV-061", _E, "sregs.cs", "a code segment is 64-bit or 32-bit, not both", "clear cs.db", f"{_ENTRY}; {_VMRUN}",
        _cs_l_db,
    ),
    Invariant("INV-062", _E, "sregs.cr3", "CR3 is a physical address", "clear bits 52 up", _SREGS, _cr3),
    Invariant("INV-063", _E, "sregs.cr8", "CR8 is 0-15", "it is TPR bits 4-7", "SDM vol. 3A 2.5", _cr8),
    Invariant("INV-064", _E, "sregs.apic_base", "the APIC base is legal", "x2APIC needs EN", _SREGS, _apic_base),
    Invariant(
        "INV-066", _E, "sregs2", "sregs and sregs2 say the same", "change both, or leave sregs2 out", "ours",
        _sregs2_agrees,
    ),
    Invariant(
        "INV-067", _E, "sregs2.flags", "only PDPTRS_VALID", "clear the others",
        "Linux 6.12 regs.c __set_sregs2: EINVAL", _sregs2_flags,
    ),
    Invariant(
        "INV-068", _E, "sregs2.pdptrs", "PDPTRs only under PAE paging", "clear PDPTRS_VALID",
        "Linux 6.12 regs.c __set_sregs2: EINVAL", _pdptrs,
    ),
    Invariant(
        "INV-048", _W, "sregs2.pdptrs", "a present PDPTE has no reserved bits", "clear them",
        "SDM vol. 3C 27.3.1.6; MOV to CR3: #GP", _pdpte_bits, host_vendor=INTEL,
    ),
    Invariant(
        "INV-073", _E, "sregs.cr4", "CR4.CET needs CR0.WP", "set WP, or clear bit 23",
        "SDM vol. 3A 2.5; APM vol. 2 15.5.1; Linux 6.18 x86.c kvm_set_cr4", _cet,
    ),
    Invariant(
        "INV-074", _W, "sregs.cr0", "CR0 has known bits only", "clear the others: a write ignores them",
        "Linux 6.12 x86.c kvm_set_cr0", _cr0_reserved,
    ),
    Invariant(
        "INV-075", _N, "sregs.cr0", "CR0.ET reads as 1", "set bit 4", "SDM vol. 3A 2.5", _cr0_et,
    ),
)  # fmt: skip
