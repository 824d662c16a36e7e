"""kvm_userspace_memory_region: one slot of guest memory, as KVM_SET_USER_MEMORY_REGION takes it."""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar

from ..layout import U32, U64, CStruct


class MemoryRegionFlags(IntFlag):
    """kvm_userspace_memory_region.flags; GUEST_MEMFD needs KVM_SET_USER_MEMORY_REGION2."""

    KVM_MEM_LOG_DIRTY_PAGES = 1
    KVM_MEM_READONLY = 2
    KVM_MEM_GUEST_MEMFD = 4


class KvmUserspaceMemoryRegion(CStruct):
    """struct kvm_userspace_memory_region; sizes in bytes, `userspace_addr` in the process that owns the VM.

    `slot` holds the number in bits 0 to 15 and the address space in bits 16 to 31. Size 0 deletes the slot. It travels
    in the CONFIG record of a stream as a slot of `schemas.memory.MemoryMap`: an address of user space means nothing on
    another host.
    Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 4.35.
    """

    C_NAME: ClassVar[str | None] = "kvm_userspace_memory_region"
    SIZE: ClassVar[int] = 32

    slot: U32
    flags: U32
    guest_phys_addr: U64
    memory_size: U64
    userspace_addr: U64

    @property
    def as_id(self) -> int:
        """Return the address space: 0 normal, 1 what a vCPU in SMM sees."""
        return self.slot >> 16

    @property
    def slot_id(self) -> int:
        """Return the number within the address space."""
        return self.slot & 0xFFFF
