"""VMX capability MSRs: what a guest hypervisor was told that it may ask for.

Each is compared as KVM compares it when the value is restored. The MSRs CR0_FIXED1 and CR4_FIXED1 follow from CPUID and
VMCS_ENUM says nothing that can be lacking; none is compared.
Source: Linux 6.12 arch/x86/kvm/vmx/nested.c vmx_set_vmx_msr.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...errors import Severity
from ...names.msrs import msr_name
from ..row import Case, CompatRule, Mismatch, Mismatches, unsaid

_LOW = 0xFFFFFFFF
_ALL = (1 << 64) - 1

BASIC, MISC, EPT_VPID = 0x480, 0x485, 0x48C
CONTROLS = (0x481, 0x482, 0x483, 0x484, 0x48B, 0x48D, 0x48E, 0x48F, 0x490)
FIXED = (0x486, 0x488)
FEATURES = (EPT_VPID, 0x491)

_BASIC_FEATURES = 1 << 49 | 1 << 54 | 1 << 55
_BASIC_32BIT = 1 << 48
"""VMX structures below 4 GiB only: KVM refuses it, whatever the host."""
_MISC_FEATURES = 1 << 5 | 0x1C0 | 1 << 14 | 1 << 15 | 1 << 28 | 1 << 29 | 1 << 30

_PREEMPTION_TIMER = 1 << 6

Fits = Callable[[int, int, dict[int, int]], bool]


def _controls(guest: int, host: int, _: dict[int, int]) -> bool:
    """Bits that must be 1 (low half) stay so; bits that may be 1 (high half) are among the host's."""
    return not host & _LOW & ~guest and not (guest & ~host) >> 32


def _basic(guest: int, host: int, _: dict[int, int]) -> bool:
    """The same VMCS revision, no larger VMCS, the host's features."""
    same_revision = (guest ^ host) & 0x7FFFFFFF == 0
    sizes = guest >> 32 & 0x1FFF >= host >> 32 & 0x1FFF
    return same_revision and sizes and not guest & (~host & _BASIC_FEATURES | _BASIC_32BIT)


def _misc(guest: int, host: int, values: dict[int, int]) -> bool:
    """The same rate of the preemption timer if it is offered, not more CR3 targets and MSRs, the host's features."""
    timer = values.get(0x481, 0) >> 32 & _PREEMPTION_TIMER
    rate = not timer or guest & 0x1F == host & 0x1F
    counts = all(guest >> low & mask <= host >> low & mask for low, mask in ((16, 0x1FF), (25, 7)))
    return rate and counts and not guest & ~host & _MISC_FEATURES and guest >> 32 == host >> 32


def _fixed(guest: int, host: int, _: dict[int, int]) -> bool:
    """Bits that must be 1 on the host must be so for the guest."""
    return not host & ~guest


def _subset(guest: int, host: int, _: dict[int, int]) -> bool:
    return not guest & ~host & _ALL


def _compare(indices: tuple[int, ...], fits: Fits, case: Case) -> Mismatches:
    for where, values, guest in case.msr_values:
        if case.machine.subject == "machine" and not guest.bit(1, 0, "ecx", 5):
            continue
        for index in indices:
            ours = values.get(index)
            if not ours:
                continue
            theirs = case.host.feature_msr(index)
            if theirs is None and case.host.feature_msrs is None:
                yield unsaid(where, f"{ours:#x}", f"its value of {msr_name(index)}")
            elif not fits(ours, theirs or 0, values):
                text = f"{msr_name(index)} {ours:#x}, the host has {theirs or 0:#x}"
                yield Mismatch(where, text, f"{ours:#x}", f"{theirs or 0:#x}")


def _rule(rule_id: str, text: str, indices: tuple[int, ...], fits: Fits) -> CompatRule:
    return CompatRule(
        rule_id,
        Severity.ERROR,
        text,
        "KVM_SET_MSRS refuses the value; the guest's hypervisor would set up what the host cannot run",
        "create the VM with VMX capabilities that every host has, or without VMX",
        "Linux 6.12 arch/x86/kvm/vmx/nested.c vmx_set_vmx_msr; SDM vol. 3D appendix A",
        partial(_compare, indices, fits),
    )


VMX_MSR_RULES: tuple[CompatRule, ...] = (
    _rule("CMP-220", "VMX basics", (BASIC,), _basic),
    _rule("CMP-221", "VMX controls", CONTROLS, _controls),
    _rule("CMP-222", "VMX miscellany", (MISC,), _misc),
    _rule("CMP-223", "VMX fixed bits of CR0 and CR4", FIXED, _fixed),
    _rule("CMP-224", "VMX EPT, VPID and VM functions", FEATURES, _subset),
)
