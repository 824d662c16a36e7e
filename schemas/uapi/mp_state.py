"""kvm_mp_state: whether the vCPU runs, is halted, or waits for INIT or SIPI."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from ..layout import U32, CStruct


class MpState(IntEnum):
    """The values of x86; 5-8 and 10 belong to other architectures."""

    KVM_MP_STATE_RUNNABLE = 0
    KVM_MP_STATE_UNINITIALIZED = 1
    KVM_MP_STATE_INIT_RECEIVED = 2
    KVM_MP_STATE_HALTED = 3
    KVM_MP_STATE_SIPI_RECEIVED = 4
    KVM_MP_STATE_AP_RESET_HOLD = 9


class KvmMpState(CStruct):
    """struct kvm_mp_state.

    KVM_GET_MP_STATE consumes a latched INIT or SIPI, so it is saved before everything else.
    Source: Linux 6.12 arch/x86/kvm/x86.c kvm_arch_vcpu_ioctl_get_mpstate.
    """

    C_NAME: ClassVar[str | None] = "kvm_mp_state"
    SIZE: ClassVar[int] = 4

    mp_state: U32
