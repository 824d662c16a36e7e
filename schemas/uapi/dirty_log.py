"""kvm_dirty_log and its companions: which pages of a slot the guest has written to."""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar

from ..layout import U32, U64, CStruct


class DirtyGfnFlags(IntFlag):
    """kvm_dirty_gfn.flags: 0 empty, DIRTY filled by the kernel, RESET harvested by user space."""

    KVM_DIRTY_GFN_F_DIRTY = 1
    KVM_DIRTY_GFN_F_RESET = 2


class KvmDirtyLog(CStruct):
    """struct kvm_dirty_log: `dirty_bitmap` is the address of a bitmap with a bit per page of the slot.

    The bitmap is whole 64-bit words (`schemas.dirty_bitmap`). `slot` is encoded as in kvm_userspace_memory_region.
    Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 4.8.
    """

    C_NAME: ClassVar[str | None] = "kvm_dirty_log"
    SIZE: ClassVar[int] = 16

    slot: U32
    padding1: U32 = 0
    dirty_bitmap: U64


class KvmClearDirtyLog(CStruct):
    """struct kvm_clear_dirty_log: pages whose dirty bit is cleared and which are write-protected again.

    `first_page` is a multiple of 64, and so is `num_pages` unless it reaches the end of the slot.
    Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 4.117 (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
    """

    C_NAME: ClassVar[str | None] = "kvm_clear_dirty_log"
    SIZE: ClassVar[int] = 24

    slot: U32
    num_pages: U32
    first_page: U64
    dirty_bitmap: U64


class KvmDirtyGfn(CStruct):
    """struct kvm_dirty_gfn: one entry of a vCPU's dirty ring; `offset` counts pages from the start of the slot.

    Source: Linux 6.12 include/uapi/linux/kvm.h; api.rst 8.29 (KVM_CAP_DIRTY_LOG_RING).
    """

    C_NAME: ClassVar[str | None] = "kvm_dirty_gfn"
    SIZE: ClassVar[int] = 16

    flags: U32
    slot: U32
    offset: U64
