"""Bits of control registers and of EFER that need a feature of the host's processor."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import Severity
from ..cpuid_view import LEGACY_PHYSICAL_BITS
from ..row import Case, CompatRule, Mismatch, Mismatches, per_vcpu, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING


class FeatureBit(NamedTuple):
    """A bit and the CPUID bit that announces it."""

    bit: int
    name: str
    function: int
    subleaf: int
    register: str
    feature: int


CR4_FEATURES: tuple[FeatureBit, ...] = (
    FeatureBit(0, "VME", 1, 0, "edx", 1),
    FeatureBit(1, "PVI", 1, 0, "edx", 1),
    FeatureBit(2, "TSD", 1, 0, "edx", 4),
    FeatureBit(3, "DE", 1, 0, "edx", 2),
    FeatureBit(4, "PSE", 1, 0, "edx", 3),
    FeatureBit(5, "PAE", 1, 0, "edx", 6),
    FeatureBit(6, "MCE", 1, 0, "edx", 7),
    FeatureBit(7, "PGE", 1, 0, "edx", 13),
    FeatureBit(9, "OSFXSR", 1, 0, "edx", 24),
    FeatureBit(10, "OSXMMEXCPT", 1, 0, "edx", 25),
    FeatureBit(11, "UMIP", 7, 0, "ecx", 2),
    FeatureBit(12, "LA57", 7, 0, "ecx", 16),
    FeatureBit(13, "VMXE", 1, 0, "ecx", 5),
    FeatureBit(14, "SMXE", 1, 0, "ecx", 6),
    FeatureBit(16, "FSGSBASE", 7, 0, "ebx", 0),
    FeatureBit(17, "PCIDE", 1, 0, "ecx", 17),
    FeatureBit(18, "OSXSAVE", 1, 0, "ecx", 26),
    FeatureBit(19, "KL", 7, 0, "ecx", 23),
    FeatureBit(20, "SMEP", 7, 0, "ebx", 7),
    FeatureBit(21, "SMAP", 7, 0, "ebx", 20),
    FeatureBit(22, "PKE", 7, 0, "ecx", 3),
    FeatureBit(24, "PKS", 7, 0, "ecx", 31),
    FeatureBit(25, "UINTR", 7, 0, "edx", 5),
    FeatureBit(27, "LASS", 7, 1, "eax", 6),
    FeatureBit(28, "LAM_SUP", 7, 1, "eax", 26),
    FeatureBit(32, "FRED", 7, 1, "eax", 17),
)
"""Source: SDM vol. 3A 2.5; Linux 6.12 arch/x86/kvm/x86.h __cr4_reserved_bits."""

EFER_FEATURES: tuple[FeatureBit, ...] = (
    FeatureBit(0, "SCE", 0x80000001, 0, "edx", 11),
    FeatureBit(8, "LME", 0x80000001, 0, "edx", 29),
    FeatureBit(11, "NXE", 0x80000001, 0, "edx", 20),
    FeatureBit(12, "SVME", 0x80000001, 0, "ecx", 2),
    FeatureBit(14, "FFXSR", 0x80000001, 0, "edx", 25),
    FeatureBit(15, "TCE", 0x80000001, 0, "ecx", 17),
    FeatureBit(17, "MCOMMIT", 0x80000008, 0, "ebx", 8),
    FeatureBit(18, "INTWB", 0x80000008, 0, "ebx", 13),
    FeatureBit(20, "UAIE", 0x80000021, 0, "eax", 7),
    FeatureBit(21, "AIBRSE", 0x80000021, 0, "eax", 8),
)
"""Source: APM vol. 2 3.1.7; Linux 6.12 arch/x86/kvm/x86.c efer_reserved_bits, svm.c svm_hardware_setup."""

_PCE, _CET, _LMA = 8, 23, 10
CR4_TREATED = sum(1 << row.bit for row in CR4_FEATURES) | 1 << _PCE | 1 << _CET
"""PCE needs no feature."""
EFER_TREATED = sum(1 << row.bit for row in EFER_FEATURES) | 1 << _LMA
"""LMA follows from LME and paging."""


def _unnamed(where: str, value: int, treated: int) -> Mismatches:
    """A bit without a row: nothing says which hosts have it."""
    if bits := value & ~treated:
        text = f"{bits:#x} has no rule: whether the host has what it needs is not known"
        yield Mismatch(where, text, f"{value:#x}", "not known", _WARNING)


def _lacking(case: Case, value: int, rows: tuple[FeatureBit, ...]) -> list[str]:
    return [
        row.name
        for row in rows
        if value >> row.bit & 1 and not case.cpu.bit(row.function, row.subleaf, row.register, row.feature)  # type: ignore[arg-type]
    ]


def _cr4(case: Case) -> Mismatches:
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.cr4 != 0, "sregs.cr4"):
        if lost := _lacking(case, vcpu.cr4, CR4_FEATURES):
            yield Mismatch(where, f"{', '.join(lost)}: the host lacks the feature", f"{vcpu.cr4:#x}", "")
        # CET (23) comes with shadow stacks or with branch tracking.
        if vcpu.cr4 >> _CET & 1 and not (case.cpu.bit(7, 0, "ecx", 7) or case.cpu.bit(7, 0, "edx", 20)):
            yield Mismatch(where, "CET: the host lacks the feature", f"{vcpu.cr4:#x}", "")
        yield from _unnamed(where, vcpu.cr4, CR4_TREATED)


def _efer(case: Case) -> Mismatches:
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.efer != 0, "sregs.efer"):
        if lost := _lacking(case, vcpu.efer, EFER_FEATURES):
            yield Mismatch(where, f"{', '.join(lost)}: the host lacks the feature", f"{vcpu.efer:#x}", "")
        yield from _unnamed(where, vcpu.efer, EFER_TREATED)


def _cr3(case: Case) -> Mismatches:
    known = case.cpu.physical_bits
    width = known or LEGACY_PHYSICAL_BITS
    for where, vcpu in per_vcpu(case.machine, lambda vcpu: vcpu.cr3_high != 0, "sregs.cr3"):
        lam = vcpu.cr3_high >> 29 & 3
        if lam and not case.cpu.bit(7, 1, "eax", 26):
            yield Mismatch(where, "linear-address masking is on, the host lacks LAM", f"{lam:#x}", "")
        address = vcpu.cr3_high & 0xFFFFF
        if not address >> max(width - 32, 0):
            continue
        if known is None:
            yield unsaid(where, f"{address << 32:#x}", "how many physical address bits it has")
        else:
            text = f"the page tables lie above {width} bits of a physical address"
            yield Mismatch(where, text, f"{address << 32:#x}", f"{width} bits")


REGISTER_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-230", _ERROR, "bit of CR4", "KVM_SET_SREGS fails with EINVAL",
        "create the VM without the feature, or choose a host that has it",
        "Linux 6.12 arch/x86/kvm/x86.c kvm_is_valid_cr4", _cr4,
    ),
    CompatRule(
        "CMP-231", _ERROR, "bit of EFER", "KVM_SET_SREGS fails with EINVAL",
        "create the VM without the feature, or choose a host that has it",
        "Linux 6.12 arch/x86/kvm/x86.c kvm_valid_efer", _efer,
    ),
    CompatRule(
        "CMP-232", _ERROR, "CR3", "KVM_SET_SREGS fails with EINVAL, or every access faults",
        "create the VM with fewer physical bits and without LAM, or choose a host that has them",
        "Linux 6.12 arch/x86/kvm/x86.c kvm_is_valid_sregs: kvm_vcpu_is_legal_cr3", _cr3,
    ),
)  # fmt: skip
