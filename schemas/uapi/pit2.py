"""kvm_pit_state2: the 8254 timer."""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, ClassVar

from ..layout import S64, U8, U16, U32, CArray, CStruct


class PitFlags(IntFlag):
    """kvm_pit_state2.flags."""

    KVM_PIT_FLAGS_HPET_LEGACY = 1
    KVM_PIT_FLAGS_SPEAKER_DATA_ON = 2


class KvmPitChannelState(CStruct):
    """struct kvm_pit_channel_state; `count` 0x10000 stands for the 0 that the guest wrote."""

    C_NAME: ClassVar[str | None] = "kvm_pit_channel_state"
    SIZE: ClassVar[int] = 24

    count: U32
    latched_count: U16
    count_latched: U8
    status_latched: U8
    status: U8
    read_state: U8
    write_state: U8
    write_latch: U8
    rw_mode: U8
    mode: U8
    bcd: U8
    gate: U8
    count_load_time: S64
    """In ns on the clock of the host that runs the VM; the emulator's is virtual time."""


class KvmPitState2(CStruct):
    """struct kvm_pit_state2.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; arch/x86/kvm/i8254.c.
    """

    C_NAME: ClassVar[str | None] = "kvm_pit_state2"
    SIZE: ClassVar[int] = 112

    channels: Annotated[tuple[KvmPitChannelState, ...], CArray(3)]
    flags: U32
    reserved: Annotated[tuple[U32, ...], CArray(9)] = (0,) * 9
