"""VERSIONS: what each schema version can say, one row per version."""

from __future__ import annotations

from typing import NamedTuple

_FLAGS_1 = 0x3F
"""The event flags of Linux: NMI_PENDING to TRIPLE_FAULT."""
_FLAG_SMM_SHADOW = 0x40
"""KVM_VCPUEVENT_VALID_SMM_SHADOW, ours."""


class SchemaVersion(NamedTuple):
    """One version: its sections, and what `kvm_vcpu_events` may say in it.

    `smm_nibble`: bits 4-7 of `interrupt.shadow` may hold a shadow put aside; otherwise they are 0 and the shadow is
    where Linux 6.2 keeps it, in SMRAM, or nowhere.
    """

    number: int
    vcpu_sections: tuple[str, ...]
    vm_sections: tuple[str, ...]
    event_flags: int
    smm_nibble: bool
    text: str


_VCPU_1 = (
    *("regs", "sregs", "sregs2", "events", "mp_state", "debugregs", "xcrs", "xsave", "msrs", "lapic", "cpuid2"),
    "tsc_khz",
)
_VM_1 = ("clock", "pit2", "pic_master", "pic_slave", "serial", "smi_port", "machine")

VERSIONS: tuple[SchemaVersion, ...] = (
    SchemaVersion(1, _VCPU_1, _VM_1, _FLAGS_1, smm_nibble=False, text="the events as every Linux kernel knows them"),
    SchemaVersion(
        2,
        (*_VCPU_1, "fpu", "nested_state", "tsc_offset"),
        (*_VM_1, "ioapic"),
        _FLAGS_1 | _FLAG_SMM_SHADOW,
        smm_nibble=True,
        text="the shadow put aside by an SMI in the events; the FPU by itself, nested state, TSC offset, I/O APIC",
    ),
)
_BY_NUMBER = {row.number: row for row in VERSIONS}


def version_row(number: int) -> SchemaVersion:
    """Return the row of a version.

    Raises:
        ValueError: there is no such version.
    """
    row = _BY_NUMBER.get(number)
    if row is None:
        raise ValueError(f"there is no schema version {number}; known are {', '.join(map(str, _BY_NUMBER))}")
    return row


def foreign_sections(names: frozenset[str] | set[str], scope: str, number: int) -> list[str]:
    """Return those of the section names that a version does not have, sorted. `scope` is "vcpu" or "vm"."""
    row = version_row(number)
    return sorted(names - set(row.vcpu_sections if scope == "vcpu" else row.vm_sections))
