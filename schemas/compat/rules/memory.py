"""Memory slots: how many, in which address spaces, how high."""

from __future__ import annotations

from ...errors import Severity
from ..row import Case, CompatRule, Mismatch, Mismatches

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING


def _slots(case: Case) -> Mismatches:
    ours, there = case.machine.memory, case.host.memory
    if there is None:
        return
    if ours.slots > there.slots:
        severity = _WARNING if case.machine.subject == "host" else None
        text = f"{ours.slots}, the host takes {there.slots} in an address space"
        yield Mismatch("memory.slots", text, str(ours.slots), str(there.slots), severity)
    elif ours.highest_slot >= there.slots:
        text = f"slot {ours.highest_slot}, the host takes numbers below {there.slots}"
        yield Mismatch("memory.slots", text, str(ours.highest_slot), str(there.slots))


def _address_spaces(case: Case) -> Mismatches:
    ours, there = case.machine.memory.address_spaces, case.host.memory
    if there is not None and case.host.smm and ours > there.address_spaces:
        text = f"{ours}, the host has {there.address_spaces}"
        yield Mismatch("memory.slots", text, str(ours), str(there.address_spaces))


def _readonly(case: Case) -> Mismatches:
    there = case.host.memory
    if case.machine.memory.readonly and there is not None and not there.readonly:
        yield Mismatch("memory.slots", "a slot is read-only, the host has no such slots", "read-only", "no")


def _width(case: Case) -> Mismatches:
    width = case.cpu.value(0x80000008, 0, "eax", 0, 8)
    end = case.machine.memory.end
    if width and end > 1 << width:
        yield Mismatch(
            "memory.slots", f"memory ends at {end:#x}, the host has {width} bits", f"{end:#x}", f"{width} bits"
        )


MEMORY_RULES: tuple[CompatRule, ...] = (
    CompatRule(
        "CMP-901", _ERROR, "memory slots", "KVM_SET_USER_MEMORY_REGION fails with EINVAL",
        "lay the memory out in fewer slots with lower numbers", "Linux 6.12 KVM_CAP_NR_MEMSLOTS", _slots,
    ),
    CompatRule(
        "CMP-902", _ERROR, "address spaces", "the first SMI kills the VM: its memory is not there",
        "choose a host with KVM_CAP_MULTI_ADDRESS_SPACE", "Linux 6.12 api.rst 4.35 KVM_SET_USER_MEMORY_REGION",
        _address_spaces,
    ),
    CompatRule(
        "CMP-903", _ERROR, "read-only memory", "the guest could write to its ROM, or the slot cannot be made",
        "choose a host with KVM_CAP_READONLY_MEM", "Linux 6.12 api.rst 4.35 KVM_MEM_READONLY", _readonly,
    ),
    CompatRule(
        "CMP-904", _ERROR, "highest address of memory", "KVM_SET_USER_MEMORY_REGION fails with EINVAL",
        "lay the memory out lower, or choose a host with as many physical bits",
        "Linux 6.12 arch/x86/kvm/x86.c kvm_arch_prepare_memory_region", _width,
    ),
)  # fmt: skip
