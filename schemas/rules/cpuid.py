"""Rules on CPUID, the TSC's frequency and debug registers: INV-080, INV-081, INV-101 to INV-104, INV-240 to INV-249."""

from __future__ import annotations

from ..errors import Severity
from .facts import CpuidBit, VcpuFacts
from .row import AMD, HARDWARE, INTEL, Details, Invariant
from .xstate import LEAF_XSTATE, XSAVE

LEAF_ADDRESS_SIZES, LEAF_TSC, LEAF_HYPERVISOR_TSC = 0x80000008, 0x15, 0x40000010
_LINEAR_BITS = (0, 48, 57)
_PHYSICAL_BITS = range(32, 53)
_KNOWN_FLAGS = 0x7
_TSC_TOLERANCE = 1000
"""One part in this many."""

INDEXED_LEAVES = frozenset({
    0x4, 0x7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1D, 0x1E, 0x1F, 0x24, 0x8000001D
})  # fmt: skip
"""Leaves with subleaves. Source: Linux 6.12 cpuid.c cpuid_function_is_indexed."""

_LM = CpuidBit(0x80000001, 0, "edx", 29, "LM")
_PAE = CpuidBit(1, 0, "edx", 6, "PAE")
_AVX = CpuidBit(1, 0, "ecx", 28, "AVX")
_AVX2 = CpuidBit(7, 0, "ebx", 5, "AVX2")
_AVX512F = CpuidBit(7, 0, "ebx", 16, "AVX512F")
_SSE, _SSE2, _FXSR = (CpuidBit(1, 0, "edx", bit, name) for bit, name in ((25, "XMM"), (26, "XMM2"), (24, "FXSR")))

DEPENDENCIES: tuple[tuple[CpuidBit, CpuidBit], ...] = (
    (_SSE, _FXSR),
    (_SSE2, _SSE),
    (_AVX, XSAVE),
    (_AVX2, _AVX),
    (_AVX512F, _AVX2),
    (_LM, _PAE),
    (CpuidBit(1, 0, "ecx", 17, "PCID"), _LM),
    (CpuidBit(7, 0, "ecx", 16, "LA57"), _LM),
    (CpuidBit(7, 0, "edx", 24, "AMX_TILE"), XSAVE),
    (CpuidBit(7, 0, "ecx", 3, "PKU"), XSAVE),
)
"""(feature, what it needs). Source: Linux 6.12 arch/x86/kernel/cpu/cpuid-deps.c; SDM vol. 1 13.2."""

VENDOR_FEATURES: tuple[tuple[str, CpuidBit], ...] = (
    (INTEL, CpuidBit(1, 0, "ecx", 5, "VMX")),
    (AMD, CpuidBit(0x80000001, 0, "ecx", 2, "SVM")),
)

DR6_ONES, DR6_ZEROS = 0xFFFE_07F0, 1 << 12
DR7_ONES, DR7_ZEROS = 1 << 10, 0xD000
"""Source: Linux 6.12 asm/kvm_host.h DR6_FIXED_1, DR7_FIXED_1, DR7_VOLATILE."""


def _debugregs(v: VcpuFacts) -> Details:
    for name in ("dr6", "dr7"):
        if (value := getattr(v.debugregs, name)) >> 32:
            yield f"{name} {value:#x}"


def _debugregs_flags(v: VcpuFacts) -> Details:
    if v.debugregs.flags:
        yield f"flags {v.debugregs.flags:#x}"


def _dr6(v: VcpuFacts) -> Details:
    if ~v.debugregs.dr6 & DR6_ONES or v.debugregs.dr6 & DR6_ZEROS:
        yield f"dr6 {v.debugregs.dr6:#x}"


def _dr7(v: VcpuFacts) -> Details:
    if ~v.debugregs.dr7 & DR7_ONES or v.debugregs.dr7 & DR7_ZEROS:
        yield f"dr7 {v.debugregs.dr7:#x}"


def _leaf_twice(v: VcpuFacts) -> Details:
    seen: set[tuple[int, int]] = set()
    for entry in v.cpuid2.entries:
        key = (entry.function, entry.index)
        if key in seen:
            yield f"leaf {entry.function:#x}.{entry.index} is there again"
        seen.add(key)


def _tsc(v: VcpuFacts) -> Details:
    if v.tsc_khz.tsc_khz == 0:
        yield "tsc_khz 0"


def _linear_bits(v: VcpuFacts) -> Details:
    leaf = v.leaf(LEAF_ADDRESS_SIZES)
    if leaf is not None and leaf.eax >> 8 & 0xFF not in _LINEAR_BITS:
        yield f"leaf {LEAF_ADDRESS_SIZES:#x} eax {leaf.eax:#x}: {leaf.eax >> 8 & 0xFF} bits"


def _physical_bits(v: VcpuFacts) -> Details:
    leaf = v.leaf(LEAF_ADDRESS_SIZES)
    if leaf is not None and leaf.eax & 0xFF not in _PHYSICAL_BITS:
        yield f"leaf {LEAF_ADDRESS_SIZES:#x} eax {leaf.eax:#x}: {leaf.eax & 0xFF} bits"


def _unindexed(v: VcpuFacts) -> Details:
    for entry in v.cpuid2.entries:
        if entry.function in INDEXED_LEAVES and not entry.flags & 1:
            yield f"leaf {entry.function:#x}.{entry.index}, flags {entry.flags:#x}"


def _flags(v: VcpuFacts) -> Details:
    for entry in v.cpuid2.entries:
        if entry.flags & ~_KNOWN_FLAGS:
            yield f"leaf {entry.function:#x}.{entry.index}, flags {entry.flags:#x}"


def _xsave_leaf(v: VcpuFacts) -> Details:
    if v.has(XSAVE) and v.leaf(LEAF_XSTATE) is None:
        yield "XSAVE, but no leaf 0xd"


def _no_features(v: VcpuFacts) -> Details:
    if not v.features_known:
        yield f"{len(v.cpuid2.entries)} entries, no leaf 1"


def _dependencies(v: VcpuFacts) -> Details:
    if not v.features_known:
        return
    for feature, needed in DEPENDENCIES:
        if v.has(feature) and not v.has(needed):
            yield f"{feature.name} without {needed.name}"


def _foreign_features(v: VcpuFacts) -> Details:
    hardware = HARDWARE.get(v.vendor or "")
    for vendor, feature in VENDOR_FEATURES:
        if hardware is not None and hardware != vendor and v.has(feature):
            yield f"{feature.name}, and the vendor is {v.vendor}"


def _frequency(v: VcpuFacts) -> Details:
    khz = v.tsc_khz.tsc_khz
    leaf, hypervisor = v.leaf(LEAF_TSC), v.leaf(LEAF_HYPERVISOR_TSC)
    told = leaf.ecx * leaf.ebx // leaf.eax // 1000 if leaf is not None and leaf.eax else 0
    for name, value in ((LEAF_TSC, told), (LEAF_HYPERVISOR_TSC, 0 if hypervisor is None else hypervisor.eax)):
        if khz and value and abs(value - khz) * _TSC_TOLERANCE > khz:
            yield f"leaf {name:#x} says {value} kHz, tsc_khz {khz}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

CPUID_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-080", _E, "debugregs", "DR6 and DR7 have 32 bits", "clear the upper half",
        "api.rst 4.34: EINVAL; APM vol. 2 15.5.1: VMEXIT_INVALID", _debugregs,
    ),
    Invariant(
        "INV-081", _E, "debugregs.flags", "no flags exist", "clear them", "api.rst 4.34: EINVAL", _debugregs_flags
    ),
    Invariant(
        "INV-101", _W, "cpuid2", "a leaf is there once", "the first one answers", "cpuid_entry2_find", _leaf_twice
    ),
    Invariant("INV-102", _W, "tsc_khz", "the TSC frequency is known", "KVM keeps its default", "api.rst 4.55", _tsc),
    Invariant(
        "INV-103", _N, "debugregs.dr6", "DR6 has its fixed bits", "0xffff0ff0 is the value after reset",
        "SDM vol. 3B 18.2.3; Linux 6.12 x86.c kvm_set_dr", _dr6,
    ),
    Invariant(
        "INV-104", _N, "debugregs.dr7", "DR7 has its fixed bits", "0x400 is the value after reset",
        "SDM vol. 3B 18.2.4; Linux 6.12 x86.c kvm_set_dr", _dr7,
    ),
    Invariant(
        "INV-240", _E, "cpuid2", "a linear address has 48 or 57 bits", "correct leaf 0x80000008 eax bits 8-15",
        "Linux 6.12 cpuid.c kvm_check_cpuid: EINVAL", _linear_bits,
    ),
    Invariant(
        "INV-241", _W, "cpuid2", "a physical address has 32 to 52 bits", "correct leaf 0x80000008 eax bits 0-7",
        "SDM vol. 3A 4.1.4", _physical_bits,
    ),
    Invariant(
        "INV-242", _W, "cpuid2", "a leaf with subleaves says that its index counts", "set flag 1",
        "Linux 6.12 cpuid.c cpuid_entry2_find: it answers for every index", _unindexed,
    ),
    Invariant(
        "INV-243", _W, "cpuid2", "only known flags", "clear the others", "asm/kvm.h KVM_CPUID_FLAG_*", _flags
    ),
    Invariant(
        "INV-244", _W, "cpuid2", "XSAVE needs leaf 0xd", "add its subleaves", "SDM vol. 1 13.2", _xsave_leaf
    ),
    Invariant(
        "INV-245", _N, "cpuid2", "without leaf 1 rules on features are not applied", "add the guest's CPUID",
        "ours", _no_features,
    ),
    Invariant(
        "INV-246", _W, "cpuid2", "a feature needs those that it builds on", "offer them, or withdraw it",
        "Linux 6.12 arch/x86/kernel/cpu/cpuid-deps.c", _dependencies,
    ),
    Invariant(
        "INV-247", _W, "cpuid2", "VMX is Intel's and SVM is AMD's", "withdraw the feature", "SDM vol. 3C 24.6; APM "
        "vol. 2 15.4", _foreign_features,
    ),
    Invariant(
        "INV-248", _W, "tsc_khz", "CPUID tells the TSC frequency that is set", "correct leaf 0x15 or 0x40000010",
        "SDM vol. 3B 19.7.3", _frequency,
    ),
)  # fmt: skip
