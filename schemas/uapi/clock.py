"""kvm_clock_data: the VM's kvmclock."""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, ClassVar

from ..layout import U32, U64, CArray, CStruct


class ClockFlags(IntFlag):
    """kvm_clock_data.flags."""

    KVM_CLOCK_TSC_STABLE = 2
    KVM_CLOCK_REALTIME = 4
    KVM_CLOCK_HOST_TSC = 8


class KvmClockData(CStruct):
    """struct kvm_clock_data; `clock` and `realtime` in ns. Set before the vCPUs resume.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; Documentation/virt/kvm/api.rst 4.29, 4.30.
    """

    C_NAME: ClassVar[str | None] = "kvm_clock_data"
    SIZE: ClassVar[int] = 48

    clock: U64
    flags: U32
    pad0: U32 = 0
    realtime: U64
    host_tsc: U64
    pad: Annotated[tuple[U32, ...], CArray(4)] = (0, 0, 0, 0)
