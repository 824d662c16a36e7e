"""kvm_msrs: model-specific registers by number."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U32, U64, CFlexArray, CStruct

MSRS_MAX_ENTRIES = 1024
"""KVM takes 256 in one ioctl (MAX_IO_MSRS); a host lists fewer than 500."""


class KvmMsrEntry(CStruct):
    """struct kvm_msr_entry."""

    C_NAME: ClassVar[str | None] = "kvm_msr_entry"
    SIZE: ClassVar[int] = 16

    index: U32
    reserved: U32 = 0
    data: U64


class KvmMsrs(CStruct):
    """struct kvm_msrs.

    KVM_SET_MSRS returns how many it wrote and stops at the first that it refuses; TSC_DEADLINE (0x6E0) is dropped
    without an error unless the local APIC is in deadline mode.
    Source: Linux 6.12 arch/x86/kvm/x86.c msr_io; arch/x86/kvm/lapic.c kvm_set_lapic_tscdeadline_msr.
    """

    C_NAME: ClassVar[str | None] = "kvm_msrs"
    SIZE: ClassVar[int] = 8

    nmsrs: U32
    pad: U32 = 0
    entries: Annotated[tuple[KvmMsrEntry, ...], CFlexArray(MSRS_MAX_ENTRIES, count="nmsrs")]

    @classmethod
    def of(cls, values: dict[int, int]) -> KvmMsrs:
        """Return the list that holds these values, in the order of the mapping."""
        return cls(nmsrs=len(values), entries=tuple(KvmMsrEntry(index=i, data=v) for i, v in values.items()))

    def values_by_index(self) -> dict[int, int]:
        """Return register number -> value; the last entry wins, as it does in KVM_SET_MSRS."""
        return {entry.index: entry.data for entry in self.entries}
