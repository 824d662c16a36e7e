"""Rules on debug registers, XCRs, XSAVE, MSRs, local APIC, CPUID and TSC: INV-080 to INV-119."""

from __future__ import annotations

from collections import Counter

from ..errors import Severity
from ..state import VcpuState
from ..uapi.mp_state import MpState
from ..uapi.xcrs import KVM_MAX_XCRS
from .row import Details, Invariant

XCR0_KNOWN = 0xFF | 1 << 9 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 62
"""x87 to AVX-512, PKRU, AMX, APX, LWP. Source: SDM vol. 1 13.1, APM vol. 2 11.5.2."""
_TOGETHER = ((0x18, "MPX"), (0xE0, "AVX-512"), (0x60000, "AMX"))
_AVX, _SSE, _AVX512 = 1 << 2, 1 << 1, 0xE0

MXCSR_KNOWN = 0x2FFFF
MXCSR_MASK_DEFAULT = 0xFFBF
"""What a mask of 0 stands for. Source: SDM vol. 1 11.6.6."""

MSR_SMBASE, MSR_TSC_DEADLINE, MSR_PAT = 0x9E, 0x6E0, 0x277
_PAT_TYPES = frozenset({0, 1, 4, 5, 6, 7})
_CANONICAL_MSRS = {
    0x175: "SYSENTER_ESP", 0x176: "SYSENTER_EIP", 0xC0000082: "LSTAR", 0xC0000083: "CSTAR",
    0xC0000100: "FS_BASE", 0xC0000101: "GS_BASE", 0xC0000102: "KERNEL_GS_BASE",
}  # fmt: skip

LAPIC_TPR, LAPIC_LVTT = 0x80, 0x320


def _debugregs(v: VcpuState) -> Details:
    for name in ("dr6", "dr7"):
        if (value := getattr(v.debugregs, name)) >> 32:
            yield f"{name} {value:#x}"


def _debugregs_flags(v: VcpuState) -> Details:
    if v.debugregs.flags:
        yield f"flags {v.debugregs.flags:#x}"


def _xcrs(v: VcpuState) -> Details:
    if v.xcrs.nr_xcrs > KVM_MAX_XCRS:
        yield f"nr_xcrs {v.xcrs.nr_xcrs}"
    if v.xcrs.flags:
        yield f"flags {v.xcrs.flags:#x}"


def _xcr_numbers(v: VcpuState) -> Details:
    for entry in v.xcrs.xcrs[: min(v.xcrs.nr_xcrs, KVM_MAX_XCRS)]:
        if entry.xcr:
            yield f"xcr {entry.xcr:#x}"


def _xcr0(v: VcpuState) -> Details:
    value = v.xcrs.xcr0
    if value is None:
        return
    if not value & 1:
        yield f"XCR0 {value:#x}: x87 is off"
    if value & ~XCR0_KNOWN:
        yield f"XCR0 {value:#x}: unknown {value & ~XCR0_KNOWN:#x}"
    if value & _AVX and not value & _SSE:
        yield f"XCR0 {value:#x}: AVX without SSE"
    if value & _AVX512 and not value & _AVX:
        yield f"XCR0 {value:#x}: AVX-512 without AVX"
    for bits, name in _TOGETHER:
        if value & bits not in (0, bits):
            yield f"XCR0 {value:#x}: {name} in part"


def _mxcsr(v: VcpuState) -> Details:
    if v.xsave.mxcsr & ~MXCSR_KNOWN:
        yield f"mxcsr {v.xsave.mxcsr:#x}"


def _mxcsr_mask(v: VcpuState) -> Details:
    mask = v.xsave.mxcsr_mask or MXCSR_MASK_DEFAULT
    if v.xsave.mxcsr & MXCSR_KNOWN & ~mask:
        yield f"mxcsr {v.xsave.mxcsr:#x}, mask {mask:#x}"


def _xcomp_bv(v: VcpuState) -> Details:
    if v.xsave.xcomp_bv:
        yield f"XCOMP_BV {v.xsave.xcomp_bv:#x}"


def _xstate_bv(v: VcpuState) -> Details:
    if unknown := v.xsave.xstate_bv & ~XCR0_KNOWN:
        yield f"XSTATE_BV {v.xsave.xstate_bv:#x}: unknown {unknown:#x}"


def _xstate_off(v: VcpuState) -> Details:
    enabled = (v.xcrs.xcr0 or 0) | 3
    if extra := v.xsave.xstate_bv & XCR0_KNOWN & ~enabled:
        yield f"XSTATE_BV {v.xsave.xstate_bv:#x}, XCR0 {enabled:#x}: {extra:#x}"


def _xsave_header(v: VcpuState) -> Details:
    if any(v.xsave.region[528:576]):
        yield f"bytes 528-575 are {v.xsave.region[528:576].hex()}"


def _mp_state(v: VcpuState) -> Details:
    if v.mp_state.mp_state not in frozenset(MpState):
        yield f"mp_state {v.mp_state.mp_state}"


def _msr_twice(v: VcpuState) -> Details:
    for index, times in Counter(entry.index for entry in v.msrs.entries).items():
        if times > 1:
            yield f"MSR {index:#x} is there {times} times"


def _msr_repeats(v: VcpuState) -> Details:
    """An MSR that shows a register of another section is written after it, so it would win."""
    held = v.msrs.values_by_index()
    for index, name, value in (
        (0x1B, "sregs.apic_base", v.sregs.apic_base),
        (0xC0000080, "sregs.efer", v.sregs.efer),
        (0xC0000100, "sregs.fs.base", v.sregs.fs.base),
        (0xC0000101, "sregs.gs.base", v.sregs.gs.base),
    ):
        if index in held and held[index] != value:
            yield f"MSR {index:#x} is {held[index]:#x}, {name} is {value:#x}"


def _msr_canonical(v: VcpuState) -> Details:
    for entry in v.msrs.entries:
        if entry.index in _CANONICAL_MSRS and entry.data >> 56 not in (0, 0xFF):
            yield f"{_CANONICAL_MSRS[entry.index]} {entry.data:#x}"


def _pat(v: VcpuState) -> Details:
    for entry in v.msrs.entries:
        if entry.index == MSR_PAT and not set(entry.data.to_bytes(8, "little")) <= _PAT_TYPES:
            yield f"PAT {entry.data:#x}"


def _smbase(v: VcpuState) -> Details:
    if v.events.smi.smm and MSR_SMBASE not in v.msrs.values_by_index():
        yield "smi.smm 1, no MSR 0x9e"


def _deadline(v: VcpuState) -> Details:
    armed = v.msrs.values_by_index().get(MSR_TSC_DEADLINE, 0)
    mode = v.lapic.register(LAPIC_LVTT) >> 17 & 3
    if armed and mode != 2:
        yield f"TSC_DEADLINE {armed:#x}, LVTT {v.lapic.register(LAPIC_LVTT):#x}"


def _timer_mode(v: VcpuState) -> Details:
    if v.lapic.register(LAPIC_LVTT) >> 17 & 3 == 3:
        yield f"LVTT {v.lapic.register(LAPIC_LVTT):#x}"


def _tpr(v: VcpuState) -> Details:
    tpr = v.lapic.register(LAPIC_TPR)
    if tpr >> 4 & 15 != v.sregs.cr8 & 15:
        yield f"cr8 {v.sregs.cr8:#x}, TPR {tpr:#x}"


def _low_vectors(v: VcpuState) -> Details:
    for name, offset in (("ISR", 0x100), ("TMR", 0x180), ("IRR", 0x200)):
        if low := v.lapic.register(offset) & 0xFFFF:
            yield f"{name} {low:#x}"


def _leaf_twice(v: VcpuState) -> Details:
    for (function, index), times in Counter((e.function, e.index) for e in v.cpuid2.entries).items():
        if times > 1:
            yield f"leaf {function:#x}.{index} is there {times} times"


def _tsc(v: VcpuState) -> Details:
    if v.tsc_khz.tsc_khz == 0:
        yield "tsc_khz 0"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_XSAVE = "Linux 6.12 KVM_SET_XSAVE: EINVAL"

EXTENDED_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-080", _E, "debugregs", "DR6 and DR7 have 32 bits", "clear the upper half", "api.rst 4.34",
        _debugregs,
    ),
    Invariant(
        "INV-081", _E, "debugregs.flags", "no flags exist", "clear them", "api.rst 4.34: EINVAL",
        _debugregs_flags,
    ),
    Invariant(
        "INV-082", _E, "xcrs", "at most 16 XCRs, no flags", "only XCR0 exists", "Linux 6.12 …_set_xcrs: EINVAL", _xcrs
    ),
    Invariant("INV-083", _W, "xcrs.xcrs", "only XCR0 exists; others are ignored", "remove them", "ours", _xcr_numbers),
    Invariant("INV-084", _E, "xcrs.xcrs", "XCR0 is a legal combination", "SDM vol. 1 13.3", "XSETBV: #GP", _xcr0),
    Invariant("INV-085", _E, "xsave.region", "MXCSR has known bits only", "clear the others", _XSAVE, _mxcsr),
    Invariant(
        "INV-086", _W, "xsave.region", "MXCSR stays within the mask saved with it", "clear the others",
        "SDM vol. 1 11.6.6", _mxcsr_mask,
    ),
    Invariant(
        "INV-087", _E, "xsave.region", "the standard format, not the compacted", "XCOMP_BV = 0", _XSAVE,
        _xcomp_bv,
    ),
    Invariant(
        "INV-088", _E, "xsave.region", "XSTATE_BV has known components only", "clear the others", _XSAVE,
        _xstate_bv,
    ),
    Invariant(
        "INV-089", _N, "xsave.region", "a component holds data although XCR0 has it off", "nothing to do",
        "SDM vol. 1 13.6", _xstate_off,
    ),
    Invariant(
        "INV-090", _E, "xsave.region", "the XSAVE header's reserved bytes are 0", "clear them", _XSAVE,
        _xsave_header,
    ),
    Invariant(
        "INV-091", _E, "mp_state.mp_state", "mp_state is a value of x86", "0, 1, 2, 3, 4 or 9",
        "Linux 6.12 …_set_mpstate: EINVAL", _mp_state,
    ),
    Invariant("INV-092", _W, "msrs", "an MSR is there once", "the last one wins", "Linux 6.12 msr_io", _msr_twice),
    Invariant(
        "INV-093", _E, "msrs", "an MSR agrees with the register that it shows", "change both",
        "schemas/ordering.py: MSRs are restored after sregs", _msr_repeats,
    ),
    Invariant(
        "INV-094", _E, "msrs", "an address MSR is canonical", "sign-extend it",
        "Linux 6.12 x86.c __kvm_set_msr", _msr_canonical,
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
        "INV-098", _W, "lapic.regs", "LVTT timer mode 3 is reserved", "use 0, 1 or 2", "SDM vol. 3A 11.5.1", _timer_mode
    ),
    Invariant("INV-099", _W, "lapic.regs", "TPR and CR8 agree", "TPR wins", "SDM vol. 3A 11.8.6", _tpr),
    Invariant(
        "INV-100", _W, "lapic.regs", "vectors 0-15 are never delivered", "clear them", "SDM vol. 3A 11.5.2",
        _low_vectors,
    ),
    Invariant(
        "INV-101", _W, "cpuid2", "a leaf is there once", "the first one answers", "cpuid_entry2_find",
        _leaf_twice,
    ),
    Invariant("INV-102", _W, "tsc_khz", "the TSC frequency is known", "KVM keeps its default", "api.rst 4.55", _tsc),
)  # fmt: skip
