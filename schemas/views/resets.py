"""The value of MSRs after RESET, where it is not 0: what tells the guest's own from what was there."""

from __future__ import annotations

from ..names.msrs import MsrClass, MsrRow, RestorePhase

MSR_RESETS: dict[int, frozenset[int]] = {
    0x9E: frozenset({0x30000}),
    0xFE: frozenset({0, 0x508}),
    0x1A0: frozenset({0, 0x1, 0x1801, 0x40001, 0x41801}),
    0x277: frozenset({0x0007040600070406}),
    0x38F: frozenset({0, 0x3, 0xF, 0xFF, 0x7000000FF}),
    0x561: frozenset({0, 0x7F}),
    0xC0000104: frozenset({0, 1 << 32}),
    0xC0010015: frozenset({0, 1 << 24}),
    0x4B564D05: frozenset({0, 1}),
}
"""Number -> its values after RESET, more than one where kernels or virtual processors differ.

Source: SDM vol. 3A table 10-1 (PAT); Linux 6.12 arch/x86/kvm/x86.c kvm_vcpu_reset, kvm_arch_vcpu_create (MISC_ENABLE,
HWCR, POLL_CONTROL); arch/x86/kvm/smm.c (SMBASE); arch/x86/kvm/mtrr.c; arch/x86/kvm/vmx/pmu_intel.c; APM vol. 2 15.30.5
(TSC_RATIO).
"""

SHOWN_ELSEWHERE = frozenset({RestorePhase.SREGS, RestorePhase.LAPIC})
"""Registers that kvm_sregs and the local APIC show already."""

UNREMARKABLE = frozenset({MsrClass.FEATURE, MsrClass.VMX, MsrClass.TIME, MsrClass.COUNTER})
"""Classes of which a value other than the reset value says nothing about the guest."""

_ZERO = frozenset({0})
_ALL_ONES = frozenset({"MSR_IA32_MCG_CAP", "MSR_IA32_MCG_CTL", "MSR_IA32_MC{n}_CTL"})
"""Machine-check registers that firmware or KVM_X86_SETUP_MCE fills with what there is."""


def at_reset(number: int, value: int) -> bool:
    """Return whether a register has a value that RESET gives it."""
    return value in MSR_RESETS.get(number, _ZERO)


def remarkable(number: int, value: int, row: MsrRow | None) -> bool:
    """Return whether the short page shows a register: it is not at reset, and the guest or firmware set it."""
    if row is None:
        return True
    if row.restore_phase in SHOWN_ELSEWHERE or row.msr_class in UNREMARKABLE or row.name in _ALL_ONES:
        return False
    return not at_reset(number, value)
