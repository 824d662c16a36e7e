"""Memory slots: how many, in which address spaces, how high."""

from __future__ import annotations

from ...errors import Severity
from ..cpuid_view import LEGACY_PHYSICAL_BITS
from ..row import Case, CompatRule, Mismatch, Mismatches, unsaid

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

LEAST_SLOTS = 32
"""Slots of an address space that every KVM takes. Source: Linux 2.6.32 asm/kvm_host.h KVM_MEMORY_SLOTS."""


def _slots(case: Case) -> Mismatches:
    ours, there = case.machine.memory, case.host.memory
    if there is None:
        if case.host.is_kvm and max(ours.slots, ours.highest_slot + 1) > LEAST_SLOTS:
            text = f"{ours.slots} slots, the highest {ours.highest_slot}"
            yield unsaid("memory.slots", text, "how many memory slots it takes")
        return
    severity = _WARNING if case.machine.subject == "host" else None
    if ours.slots > there.slots:
        text = f"{ours.slots}, the host takes {there.slots} in an address space"
        yield Mismatch("memory.slots", text, str(ours.slots), str(there.slots), severity)
    elif ours.highest_slot >= there.slots:
        text = f"slot {ours.highest_slot}, the host takes numbers below {there.slots}"
        yield Mismatch("memory.slots", text, str(ours.highest_slot), str(there.slots), severity)


def _address_spaces(case: Case) -> Mismatches:
    ours, there = case.machine.memory.address_spaces, case.host.memory
    if not case.host.smm:
        return
    if there is None:
        if case.host.is_kvm and ours > 1:
            yield unsaid("memory.slots", f"{ours} address spaces", "how many address spaces it has")
    elif ours > there.address_spaces:
        text = f"{ours}, the host has {there.address_spaces}"
        yield Mismatch("memory.slots", text, str(ours), str(there.address_spaces))


def _readonly(case: Case) -> Mismatches:
    there = case.host.memory
    if not case.machine.memory.readonly:
        return
    if there is None:
        if case.host.is_kvm:
            yield unsaid("memory.slots", "read-only", "whether a slot may be read-only")
    elif not there.readonly:
        yield Mismatch("memory.slots", "a slot is read-only, the host has no such slots", "read-only", "no")


def _width(case: Case) -> Mismatches:
    width = case.cpu.physical_bits
    end = case.machine.memory.end
    if end <= 1 << (width or LEGACY_PHYSICAL_BITS):
        return
    if width is None:
        yield unsaid("memory.slots", f"{end:#x}", "how many physical address bits it has")
    else:
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
