"""kvm_vcpu_events: exceptions, interrupts, NMIs, SMIs and interrupt shadows that are in flight."""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from ..layout import U8, U32, U64, CBytes, CStruct, PackedByte


class VcpuEventFlags(IntFlag):
    """kvm_vcpu_events.flags: which fields count."""

    KVM_VCPUEVENT_VALID_NMI_PENDING = 0x01
    KVM_VCPUEVENT_VALID_SIPI_VECTOR = 0x02
    KVM_VCPUEVENT_VALID_SHADOW = 0x04
    KVM_VCPUEVENT_VALID_SMM = 0x08
    KVM_VCPUEVENT_VALID_PAYLOAD = 0x10
    KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20
    KVM_VCPUEVENT_VALID_SMM_SHADOW = 0x40


class ShadowMask(IntFlag):
    """An interrupt shadow: masks, not numbers. KVM on AMD reports any shadow as both."""

    KVM_X86_SHADOW_INT_MOV_SS = 1
    KVM_X86_SHADOW_INT_STI = 2


class InterruptShadow(PackedByte):
    """The byte kvm_vcpu_events.interrupt.shadow."""

    current: int = Field(ge=0, le=15)
    """Bits 0-3: the shadow in force now."""
    smm: int = Field(default=0, ge=0, le=15)
    """Bits 4-7: the shadow that the SMI found, put aside until RSM."""

    @model_validator(mode="before")
    @classmethod
    def _from_raw(cls, data: Any) -> Any:
        """Read the byte itself too."""
        if isinstance(data, int) and not isinstance(data, bool) and 0 <= data <= 255:
            return {"current": data & 15, "smm": data >> 4}
        return data

    @classmethod
    def from_byte(cls, value: int) -> Self:
        """Return the structured form of a byte."""
        return cls(current=value & 15, smm=value >> 4)

    def to_byte(self) -> int:
        """Return the byte."""
        return self.current | self.smm << 4


class KvmVcpuEventsException(CStruct):
    """kvm_vcpu_events.exception."""

    SIZE: ClassVar[int] = 8

    injected: U8
    nr: U8
    has_error_code: U8
    pending: U8
    error_code: U32


class KvmVcpuEventsInterrupt(CStruct):
    """kvm_vcpu_events.interrupt."""

    SIZE: ClassVar[int] = 4

    injected: U8
    nr: U8
    soft: U8
    shadow: InterruptShadow


class KvmVcpuEventsNmi(CStruct):
    """kvm_vcpu_events.nmi."""

    SIZE: ClassVar[int] = 4

    injected: U8
    pending: U8
    masked: U8
    pad: U8 = 0


class KvmVcpuEventsSmi(CStruct):
    """kvm_vcpu_events.smi."""

    SIZE: ClassVar[int] = 4

    smm: U8
    pending: U8
    smm_inside_nmi: U8
    latched_init: U8


class KvmVcpuEventsTripleFault(CStruct):
    """kvm_vcpu_events.triple_fault."""

    SIZE: ClassVar[int] = 1

    pending: U8


class KvmVcpuEvents(CStruct):
    """struct kvm_vcpu_events."""

    C_NAME: ClassVar[str | None] = "kvm_vcpu_events"
    SIZE: ClassVar[int] = 64

    exception: KvmVcpuEventsException
    interrupt: KvmVcpuEventsInterrupt
    nmi: KvmVcpuEventsNmi
    sipi_vector: U32
    flags: U32
    smi: KvmVcpuEventsSmi
    triple_fault: KvmVcpuEventsTripleFault
    reserved: Annotated[bytes, CBytes(26)] = bytes(26)
    exception_has_payload: U8
    exception_payload: U64
