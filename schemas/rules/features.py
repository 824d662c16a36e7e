"""Rules on control registers against CPUID: INV-069 to INV-079. Without CPUID leaf 1 they have nothing to say.

KVM derives from the guest's CPUID which bits its registers may have, so KVM_SET_CPUID2 comes first.
Source: Linux 6.12 cpuid.c kvm_vcpu_after_set_cpuid, x86.h __cr4_reserved_bits, x86.c __kvm_valid_efer.
"""

from __future__ import annotations

from ..errors import Severity
from .facts import (
    APIC_BASE_EN,
    APIC_BASE_EXTD,
    CR0_PG,
    CpuidBit,
    VcpuFacts,
)
from .row import Details, Invariant

CR4_FEATURES: tuple[tuple[int, str, tuple[CpuidBit, ...]], ...] = (
    (11, "UMIP", (CpuidBit(7, 0, "ecx", 2, "UMIP"),)),
    (12, "LA57", (CpuidBit(7, 0, "ecx", 16, "LA57"),)),
    (13, "VMXE", (CpuidBit(1, 0, "ecx", 5, "VMX"),)),
    (16, "FSGSBASE", (CpuidBit(7, 0, "ebx", 0, "FSGSBASE"),)),
    (17, "PCIDE", (CpuidBit(1, 0, "ecx", 17, "PCID"),)),
    (18, "OSXSAVE", (CpuidBit(1, 0, "ecx", 26, "XSAVE"),)),
    (20, "SMEP", (CpuidBit(7, 0, "ebx", 7, "SMEP"),)),
    (21, "SMAP", (CpuidBit(7, 0, "ebx", 20, "SMAP"),)),
    (22, "PKE", (CpuidBit(7, 0, "ecx", 3, "PKU"),)),
    (23, "CET", (CpuidBit(7, 0, "ecx", 7, "SHSTK"), CpuidBit(7, 0, "edx", 20, "IBT"))),
    (28, "LAM_SUP", (CpuidBit(7, 1, "eax", 26, "LAM"),)),
)
"""CR4 bit, its name, and the features of which one must be there. Source: Linux 6.12 x86.h __cr4_reserved_bits; CET
since Linux 6.18."""

CR4_REFUSED = 1 << 14 | 1 << 19 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 32
"""SMXE, KL, PKS, UINTR, LASS, FRED. Source: Linux 6.12 asm/kvm_host.h CR4_RESERVED_BITS."""

EFER_FEATURES: tuple[tuple[int, str, CpuidBit], ...] = (
    (8, "LME", CpuidBit(0x80000001, 0, "edx", 29, "LM")),
    (11, "NXE", CpuidBit(0x80000001, 0, "edx", 20, "NX")),
    (12, "SVME", CpuidBit(0x80000001, 0, "ecx", 2, "SVM")),
    (14, "FFXSR", CpuidBit(0x80000001, 0, "edx", 25, "FXSR_OPT")),
    (21, "AIBRSE", CpuidBit(0x80000021, 0, "eax", 8, "AUTOIBRS")),
)
"""EFER bit, its name, its feature. Source: Linux 6.12 x86.c __kvm_valid_efer; APM vol. 2 3.1.7."""

X2APIC = CpuidBit(1, 0, "ecx", 21, "X2APIC")
LAM = CpuidBit(7, 1, "eax", 26, "LAM")
_LAM_BITS = 3 << 61


def _cr4(v: VcpuFacts) -> Details:
    cr4 = v.sregs.cr4
    if not v.features_known or cr4 < 1 << 11:  # below, KVM takes every bit
        return
    for bit, name, features in CR4_FEATURES:
        if cr4 >> bit & 1 and not any(v.has(feature) for feature in features):
            yield f"cr4 {cr4:#x}: {name} without {' or '.join(feature.name for feature in features)}"


def _cr4_refused(v: VcpuFacts) -> Details:
    if refused := v.sregs.cr4 & CR4_REFUSED:
        yield f"cr4 {v.sregs.cr4:#x}: {refused:#x}"


def _cr3_width(v: VcpuFacts) -> Details:
    if not (v.features_known and v.long_mode and v.sregs.cr0 & CR0_PG):
        return
    address = v.sregs.cr3 & ~_LAM_BITS if v.has(LAM) else v.sregs.cr3
    if address >> v.physical_bits:
        yield f"cr3 {v.sregs.cr3:#x}, MAXPHYADDR {v.physical_bits}"


def _efer(v: VcpuFacts) -> Details:
    efer = v.sregs.efer
    if not v.features_known or not efer:
        return
    for bit, name, feature in EFER_FEATURES:
        if efer >> bit & 1 and not v.has(feature):
            yield f"efer {efer:#x}: {name} without {feature.name}"


def _apic_base(v: VcpuFacts) -> Details:
    base = v.sregs.apic_base
    if not v.features_known:
        return
    if base >> v.physical_bits:
        yield f"apic_base {base:#x}, MAXPHYADDR {v.physical_bits}"
    if base & APIC_BASE_EXTD and base & APIC_BASE_EN and not v.has(X2APIC):
        yield f"apic_base {base:#x}: x2APIC mode without X2APIC"


_E, _W = Severity.ERROR, Severity.WARNING

FEATURE_RULES: tuple[Invariant, ...] = (
    Invariant(
        "INV-069", _E, "sregs.cr4", "a CR4 bit needs its CPUID feature", "offer the feature, or clear the bit",
        "Linux 6.12 x86.c kvm_is_valid_cr4: EINVAL", _cr4,
    ),
    Invariant(
        "INV-070", _W, "sregs.cr4", "KVM refuses CR4 bits whose feature it does not virtualize", "clear them",
        "Linux 6.12 asm/kvm_host.h CR4_RESERVED_BITS: EINVAL", _cr4_refused,
    ),
    Invariant(
        "INV-071", _E, "sregs.cr3", "in long mode CR3 is within MAXPHYADDR", "correct it, or CPUID 0x80000008",
        "Linux 6.12 regs.c kvm_is_valid_sregs, cpuid.h kvm_vcpu_is_legal_cr3: EINVAL", _cr3_width,
    ),
    Invariant(
        "INV-072", _W, "sregs.efer", "an EFER bit needs its CPUID feature", "offer the feature, or clear the bit",
        "Linux 7.3 regs.c kvm_is_valid_sregs: EINVAL, earlier ones take it; WRMSR: #GP", _efer,
    ),
    Invariant(
        "INV-076", _E, "sregs.apic_base", "the APIC base fits MAXPHYADDR, and x2APIC mode its feature",
        "offer the feature, or go back to xAPIC mode", "Linux 6.12 lapic.c kvm_set_apic_base: EINVAL", _apic_base,
    ),
)  # fmt: skip
