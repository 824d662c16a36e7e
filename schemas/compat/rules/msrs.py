"""Which MSRs a host holds at all."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import Severity
from ...names.msrs import RestorePhase, msr_name, msr_row
from ..profile import HostProfile
from ..row import Case, CompatRule, Mismatch, Mismatches, listed, unsaid
from ..summary import VcpuSummary

_MC_BANKS = 32

UNLISTED = frozenset({
    0x1B, 0xFE, *range(0x200, 0x210), 0x250, 0x258, 0x259, *range(0x268, 0x270), 0x2FF,
    *range(0x400, 0x400 + 4 * _MC_BANKS), 0xC0000080, 0xC0000100, 0xC0000101,
})  # fmt: skip
"""MSRs that KVM_GET_MSRS and KVM_SET_MSRS take although KVM_GET_MSR_INDEX_LIST does not name them, for profiles without
a list of their own: APIC_BASE, MTRRs, machine-check banks, EFER, FS and GS base.

Source: Linux 6.12 arch/x86/kvm/x86.c msrs_to_save_base, emulated_msrs_all, kvm_set_msr_common.
"""


def held_msrs(host: HostProfile) -> frozenset[int]:
    """Return the MSRs that a host reads and writes."""
    if host.msrs_unlisted is not None:
        return frozenset((*host.msr_indices, *host.msrs_unlisted))
    return frozenset(host.msr_indices) | (UNLISTED if host.is_kvm else frozenset())


def _names(indices: Iterable[int]) -> str:
    return listed(
        f"{index:#x}" if (name := msr_name(index)).startswith("0x") else f"{index:#x} {name}" for index in indices
    )


def _travels_in_sregs(index: int) -> bool:
    row = msr_row(index)
    return row is not None and row.restore_phase is RestorePhase.SREGS


def _zero(vcpu: VcpuSummary, indices: tuple[int, ...]) -> set[int]:
    mask = int(vcpu.msr_zero or "0", 16)
    return {index for place, index in enumerate(indices) if mask >> place & 1}


def _msrs(case: Case) -> Mismatches:
    """Missing MSRs; KVM can leave out one that holds 0, and has what travels in sregs; other backends refuse."""
    held, kvm = held_msrs(case.host), case.host.is_kvm
    seen: set[tuple[int, str]] = set()
    for vcpu in case.machine.vcpus:
        if (vcpu.msrs_id, vcpu.msr_zero) in seen:
            continue
        seen.add((vcpu.msrs_id, vcpu.msr_zero))
        indices = case.machine.msr_lists[vcpu.msrs_id]
        zero = _zero(vcpu, indices) if kvm else set()
        missing = [i for i in indices if i not in held and not (kvm and _travels_in_sregs(i))]
        where = f"vcpus.{vcpu.index}.msrs"
        if lost := [i for i in missing if i not in zero]:
            yield Mismatch(where, f"the host does not hold {_names(lost)}", f"{len(indices)} MSRs", f"{len(held)} MSRs")
        if empty := [i for i in missing if i in zero]:
            text = f"left out, they hold 0: {_names(empty)}"
            yield Mismatch(where, text, f"{len(indices)} MSRs", f"{len(held)} MSRs", Severity.NOTE)


def _mce(case: Case) -> Mismatches:
    banks, supported = case.host.mce_banks, case.host.mce_capabilities
    for where, values, _ in case.msr_values:
        ours = values.get(0x179, 0)
        unknown = [
            what
            for bits, there, what in ((0xFF, banks, "machine-check banks"), (~0xFF, supported, "bits of MCG_CAP"))
            if ours & bits and there is None and case.host.is_kvm
        ]
        if unknown:
            yield unsaid(where, f"{ours:#x}", f"which {' and '.join(unknown)} it has")
        if banks is not None and ours & 0xFF > banks:
            text = f"MCG_CAP has {ours & 0xFF} banks, the host {banks}"
            yield Mismatch(where, text, f"{ours:#x}", f"{banks} banks")
        if supported is not None and (lost := ours & ~0xFF & ~supported):
            text = f"MCG_CAP has bits {lost:#x} that the host lacks"
            yield Mismatch(where, text, f"{ours:#x}", f"{supported:#x}")


MSR_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-011", Severity.ERROR, "MSR", "KVM_SET_MSRS stops at it; the guest would lose its value",
        "create the VM without the feature that the MSR belongs to, or choose a host that lists it",
        "Linux 6.12 api.rst 4.3 KVM_GET_MSR_INDEX_LIST, 4.19 KVM_SET_MSRS", _msrs,
    ),
    CompatRule(
        "CMP-201", Severity.ERROR, "machine-check banks", "KVM_X86_SETUP_MCE fails with EINVAL",
        "create the VM with fewer banks or without the capability", "Linux 6.12 api.rst 4.104, 4.105 KVM_X86_SETUP_MCE",
        _mce,
    ),
)  # fmt: skip
