"""Rules on MSRs: INV-092 to INV-097, INV-200 to INV-209.

KVM_SET_MSRS stops at the first MSR whose value it refuses, so one bad entry loses every entry behind it.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..errors import Severity
from .facts import MSR_SMBASE, MSR_TSC, MSR_TSC_DEADLINE, VcpuFacts, is_canonical
from .row import INTEL, At, Details, Invariant

MSR_PAT, MSR_TSC_AUX = 0x277, 0xC0000103
MTRR_BASE0, MTRR_LAST, MTRR_DEF_TYPE = 0x200, 0x21F, 0x2FF
MTRR_FIXED = (0x250, 0x258, 0x259, *range(0x268, 0x270))
X2APIC_FIRST, X2APIC_LAST = 0x800, 0x8FF
LVTT = 0x320

_PAT_TYPES = frozenset({0, 1, 4, 5, 6, 7})
_MTRR_TYPES = frozenset({0, 1, 4, 5, 6})
_ALL64 = (1 << 64) - 1

_CANONICAL = {
    0x175: "SYSENTER_ESP", 0x176: "SYSENTER_EIP", 0xC0000082: "LSTAR", 0xC0000083: "CSTAR",
    0xC0000100: "FS_BASE", 0xC0000101: "GS_BASE", 0xC0000102: "KERNEL_GS_BASE",
}  # fmt: skip
_WIDEST_LINEAR_BITS = 57


class ReservedBits(NamedTuple):
    """Bits of an MSR that every kernel refuses."""

    number: int
    name: str
    mask: int
    source: str


_CET = "Linux 6.18 x86.c is_cet_msr_valid; SDM vol. 1 17.2"

RESERVED_BITS: tuple[ReservedBits, ...] = (
    ReservedBits(0x1C4, "IA32_XFD", _ALL64 & ~(1 << 18), "Linux 6.12 x86.c MSR_IA32_XFD"),
    ReservedBits(0x1C5, "IA32_XFD_ERR", _ALL64 & ~(1 << 18), "Linux 6.12 x86.c MSR_IA32_XFD_ERR"),
    ReservedBits(0x6A0, "IA32_U_CET", 0x3C0, _CET),
    ReservedBits(0x6A2, "IA32_S_CET", 0x3C0, _CET),
    ReservedBits(0x6A4, "IA32_PL0_SSP", 3, _CET),
    ReservedBits(0x6A5, "IA32_PL1_SSP", 3, _CET),
    ReservedBits(0x6A6, "IA32_PL2_SSP", 3, _CET),
    ReservedBits(0x6A7, "IA32_PL3_SSP", 3, _CET),
    ReservedBits(0x4B564D02, "KVM_ASYNC_PF_EN", 0x30, "Linux 6.12 x86.c kvm_pv_enable_async_pf"),
    ReservedBits(0x4B564D03, "KVM_STEAL_TIME", 0x3E, "Linux 6.12 x86.c KVM_STEAL_RESERVED_MASK"),
    ReservedBits(0x4B564D04, "KVM_PV_EOI_EN", 2, "Linux 6.12 lapic.c kvm_lapic_set_pv_eoi: 4-byte alignment"),
    ReservedBits(0x4B564D05, "KVM_POLL_CONTROL", _ALL64 & ~1, "Linux 6.12 x86.c MSR_KVM_POLL_CONTROL"),
    ReservedBits(MTRR_DEF_TYPE, "MTRRdefType", _ALL64 & ~0xCFF, "Linux 6.12 mtrr.c kvm_mtrr_valid"),
)
"""One row per MSR."""

COMMAND_MSRS = {0x49: "IA32_PRED_CMD", 0x10B: "IA32_FLUSH_CMD", 0x79: "IA32_BIOS_UPDT_TRIG", 0x830: "X2APIC_ICR"}
"""A write does something; there is nothing to restore. Source: SDM vol. 4 table 2-2."""


def _twice(v: VcpuFacts) -> Details:
    if len(v.msr) == len(v.msrs.entries):
        return
    for index, times in Counter(entry.index for entry in v.msrs.entries).items():
        if times > 1:
            yield At(f"msrs.{index:#x}", f"MSR {index:#x} is there {times} times")


def _repeats(v: VcpuFacts) -> Details:
    """An MSR that shows a register of another section is written after it, so it would win."""
    for index, name, value in (
        (0x1B, "sregs.apic_base", v.sregs.apic_base),
        (0xC0000080, "sregs.efer", v.sregs.efer),
        (0xC0000100, "sregs.fs.base", v.sregs.fs.base),
        (0xC0000101, "sregs.gs.base", v.sregs.gs.base),
    ):
        if v.msr.get(index, value) != value:
            yield At(f"msrs.{index:#x}", f"MSR {index:#x} is {v.msr[index]:#x}, {name} is {value:#x}")


def _canonical(v: VcpuFacts) -> Details:
    for index, name in _CANONICAL.items():
        if not is_canonical(v.msr.get(index, 0), _WIDEST_LINEAR_BITS):
            yield At(f"msrs.{index:#x}", f"{name} {v.msr[index]:#x}")


def _pat(v: VcpuFacts) -> Details:
    value = v.msr.get(MSR_PAT, 0)
    if not set(value.to_bytes(8, "little")) <= _PAT_TYPES:
        yield At(f"msrs.{MSR_PAT:#x}", f"PAT {value:#x}")


def _smbase(v: VcpuFacts) -> Details:
    if v.in_smm and MSR_SMBASE not in v.msr:
        yield "smi.smm 1, no MSR 0x9e"


def _deadline(v: VcpuFacts) -> Details:
    armed = v.msr.get(MSR_TSC_DEADLINE, 0)
    mode = v.lapic.register(LVTT) >> 17 & 3
    if armed and mode != 2:
        yield At(f"msrs.{MSR_TSC_DEADLINE:#x}", f"TSC_DEADLINE {armed:#x}, LVTT {v.lapic.register(LVTT):#x}")


def _reserved(v: VcpuFacts) -> Details:
    for row in RESERVED_BITS:
        if bits := v.msr.get(row.number, 0) & row.mask:
            yield At(f"msrs.{row.number:#x}", f"{row.name} {v.msr[row.number]:#x}: {bits:#x} ({row.source})")


def _mtrrs(v: VcpuFacts) -> Details:
    if MTRR_DEF_TYPE not in v.msr and MTRR_BASE0 not in v.msr:
        return
    for index in MTRR_FIXED:
        if not set(v.msr.get(index, 0).to_bytes(8, "little")) <= _MTRR_TYPES:
            yield At(f"msrs.{index:#x}", f"fixed-range MTRR {v.msr[index]:#x}")
    if v.msr.get(MTRR_DEF_TYPE, 0) & 0xFF not in _MTRR_TYPES:
        yield At(f"msrs.{MTRR_DEF_TYPE:#x}", f"MTRRdefType {v.msr[MTRR_DEF_TYPE]:#x}")
    beyond = _ALL64 & -1 << v.physical_bits if v.features_known else 0
    for index in range(MTRR_BASE0, MTRR_LAST + 1):
        value = v.msr.get(index, 0)
        if not value:
            continue
        if index & 1:
            wrong = bool(value & (beyond | 0x7FF))
        else:
            wrong = bool(value & (beyond | 0xF00)) or value & 0xFF not in _MTRR_TYPES
        if wrong:
            yield At(f"msrs.{index:#x}", f"variable-range MTRR {value:#x}, MAXPHYADDR {v.physical_bits}")


def _tsc_aux(v: VcpuFacts) -> Details:
    value = v.msr.get(MSR_TSC_AUX, 0)
    if value >> 32 and v.vendor == INTEL:
        yield At(f"msrs.{MSR_TSC_AUX:#x}", f"TSC_AUX {value:#x}")


def _commands(v: VcpuFacts) -> Details:
    for index, name in COMMAND_MSRS.items():
        if index in v.msr:
            yield At(f"msrs.{index:#x}", f"{name} {v.msr[index]:#x}")


def _x2apic(v: VcpuFacts) -> Details:
    held = [index for index in v.msr if X2APIC_FIRST <= index <= X2APIC_LAST]
    if held:
        yield f"{len(held)} of them, the first is {held[0]:#x}"


def _smbase_width(v: VcpuFacts) -> Details:
    if v.msr.get(MSR_SMBASE, 0) >> 32:
        yield At(f"msrs.{MSR_SMBASE:#x}", f"SMBASE {v.msr[MSR_SMBASE]:#x}")


def _tsc_offset(v: VcpuFacts) -> Details:
    if MSR_TSC in v.msr and v.tsc_offset is not None:
        yield f"tsc_offset and MSR 0x10 ({v.msr[MSR_TSC]:#x})"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

MSR_RULES: tuple[Invariant, ...] = (
    Invariant("INV-092", _W, "msrs", "an MSR is there once", "the last one wins", "Linux 6.12 msr_io", _twice),
    Invariant(
        "INV-093", _E, "msrs", "an MSR agrees with the register that it shows", "change both",
        "schemas/ordering.py: MSRs are restored after sregs", _repeats,
    ),
    Invariant(
        "INV-094", _E, "msrs", "an address MSR is canonical", "sign-extend it",
        "Linux 6.12 x86.c __kvm_set_msr", _canonical,
    ),
    Invariant(
        "INV-095", _E, "msrs", "PAT holds memory types 0, 1, 4-7", "correct it", "Linux 6.12 kvm_pat_valid", _pat
    ),
    Invariant(
        "INV-096", _W, "msrs", "in SMM without SMBASE, RSM looks at 0x30000", "add MSR 0x9e",
        "Linux 6.12 smm.c emulator_leave_smm", _smbase,
    ),
    Invariant(
        "INV-097", _W, "msrs", "a TSC deadline needs the local APIC's deadline mode, or it is dropped",
        "set LVTT bits 17-18 to 2", "Linux 6.12 lapic.c kvm_set_lapic_tscdeadline_msr", _deadline,
    ),
    Invariant(
        "INV-200", _E, "msrs", "reserved bits of an MSR are 0", "clear them", "Linux 6.12 KVM_SET_MSRS stops here",
        _reserved,
    ),
    Invariant(
        "INV-201", _E, "msrs", "MTRRs hold memory types 0, 1, 4-6 and addresses within MAXPHYADDR", "correct them",
        "Linux 6.12 mtrr.c kvm_mtrr_valid: KVM_SET_MSRS stops here", _mtrrs,
    ),
    Invariant(
        "INV-202", _E, "msrs", "TSC_AUX has 32 bits for an Intel guest", "clear the upper half",
        "Linux 6.12 x86.c __kvm_set_msr", _tsc_aux,
    ),
    Invariant(
        "INV-203", _W, "msrs", "an MSR that is a command is no state", "remove it: a restore would execute it",
        "SDM vol. 4 table 2-2", _commands,
    ),
    Invariant(
        "INV-204", _W, "msrs", "x2APIC registers travel in lapic, not as MSRs", "remove 0x800-0x8ff",
        "Linux 6.12 lapic.c kvm_x2apic_msr_write: writes act, an ICR sends", _x2apic,
    ),
    Invariant(
        "INV-205", _E, "msrs", "SMBASE has 32 bits", "clear the upper half",
        "SDM vol. 3C 33.11; both SMRAM maps have a 32-bit field", _smbase_width,
    ),
    Invariant(
        "INV-206", _N, "tsc_offset", "the TSC is said twice: as an offset and as MSR 0x10",
        "the one restored last wins", "api.rst KVM_VCPU_TSC_OFFSET", _tsc_offset, needs="tsc_offset",
    ),
)  # fmt: skip
