"""kvm_vcpu_events: exceptions, interrupts, NMIs, SMIs and interrupt shadows that are in flight.

Which field counts on KVM_SET_VCPU_EVENTS:

| field | counts |
|---|---|
| exception.injected, nr, has_error_code, error_code | always |
| exception.pending, exception_has_payload, exception_payload | with VALID_PAYLOAD (KVM_CAP_EXCEPTION_PAYLOAD enabled) |
| interrupt.injected, nr, soft; nmi.injected, masked | always |
| interrupt.shadow bits 0-3 | with VALID_SHADOW |
| interrupt.shadow bits 4-7 | with VALID_SMM_SHADOW, VALID_SMM and smi.smm (ours: no kernel knows them) |
| nmi.pending | with VALID_NMI_PENDING |
| sipi_vector | with VALID_SIPI_VECTOR |
| smi.* | with VALID_SMM |
| triple_fault.pending | with VALID_TRIPLE_FAULT (KVM_CAP_X86_TRIPLE_FAULT_EVENT enabled) |

A SET built from zeroes therefore wipes injected events and the NMI mask; and it is not atomic: one that fails at the
SMM or triple-fault step (EINVAL) has changed the rest already. What is legal: the rows of `schemas.rules.events`.
Source: Linux 6.12 arch/x86/kvm/x86.c kvm_vcpu_ioctl_x86_get_vcpu_events, …_set_vcpu_events; api.rst 4.31, 4.32.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..layout import U8, U32, U64, CBytes, CStruct, PackedByte


class VcpuEventFlags(IntFlag):
    """kvm_vcpu_events.flags: which fields count. The kernel refuses any other bit with EINVAL."""

    KVM_VCPUEVENT_VALID_NMI_PENDING = 0x01
    KVM_VCPUEVENT_VALID_SIPI_VECTOR = 0x02
    KVM_VCPUEVENT_VALID_SHADOW = 0x04
    KVM_VCPUEVENT_VALID_SMM = 0x08
    KVM_VCPUEVENT_VALID_PAYLOAD = 0x10
    KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20
    # Ours: proposed on the kvm list on 2022-08-25 without a number, never merged; 0x40 is the next free bit. Linux 6.12
    # and 7.3 answer EINVAL, so a backend on /dev/kvm clears it (`schemas.shadow.for_stock_kernel`).
    KVM_VCPUEVENT_VALID_SMM_SHADOW = 0x40


class ShadowMask(IntFlag):
    """An interrupt shadow as a set of masks, not a number.

    VMX keeps the two apart. SVM has one bit: it reports any shadow as both, and takes any nonzero byte as a shadow.
    Source: Linux 6.12 vmx_get_interrupt_shadow, svm_get_interrupt_shadow.
    """

    KVM_X86_SHADOW_INT_MOV_SS = 1
    KVM_X86_SHADOW_INT_STI = 2


SHADOW_MASKS = 3
"""All bits that a shadow can have."""


class InterruptShadow(PackedByte):
    """The byte kvm_vcpu_events.interrupt.shadow: two sets of `ShadowMask`, every byte value kept.

    The upper nibble is 0x10 (MOV SS), 0x20 (STI) or 0x30 (both). JSON takes the byte as a plain number too.
    """

    current: int = Field(ge=0, le=15, strict=True)
    """Bits 0-3: the shadow in force now. Inside SMM it is that of the handler."""
    smm: int = Field(default=0, ge=0, le=15, strict=True)
    """Bits 4-7: the shadow that the SMI found in force, put aside until RSM brings it back."""

    @model_validator(mode="before")
    @classmethod
    def _from_raw(cls, data: Any) -> Any:
        """Read the byte itself too."""
        if isinstance(data, int) and not isinstance(data, bool) and 0 <= data <= 255:
            return {"current": data & 15, "smm": data >> 4}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return both forms that are read; only the structured one is written."""
        structured = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        if handler.mode == "serialization":
            return structured
        return {"anyOf": [structured, {"type": "integer", "minimum": 0, "maximum": 255}]}

    @classmethod
    def from_byte(cls, value: int) -> InterruptShadow:
        """Return the structured form of a byte."""
        return _SHADOWS[value]

    def to_byte(self) -> int:
        """Return the byte."""
        return self.current | self.smm << 4


_SHADOWS = tuple(InterruptShadow.model_construct(current=byte & 15, smm=byte >> 4) for byte in range(256))


class KvmVcpuEventsException(CStruct):
    """kvm_vcpu_events.exception.

    GET reports neither #BP nor #OF (soft: the guest executes the instruction again). Without KVM_CAP_EXCEPTION_PAYLOAD
    GET sets `injected` for a pending exception as well, so both may be 1; with it they exclude each other. SET refuses
    nr 2 and nr above 31 if either is set; otherwise `nr` may be stale.
    """

    SIZE: ClassVar[int] = 8

    injected: U8
    """Being delivered: delivery starts again at the next entry."""
    nr: U8
    has_error_code: U8
    pending: U8
    """Raised, not yet delivered."""
    error_code: U32


class KvmVcpuEventsInterrupt(CStruct):
    """kvm_vcpu_events.interrupt. GET reports no soft interrupt; `nr` may be stale when nothing is injected."""

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
    """A count, at most 2; at most 1 while NMIs are masked or one is being injected."""
    masked: U8
    pad: U8 = 0


class KvmVcpuEventsSmi(CStruct):
    """kvm_vcpu_events.smi.

    SET of `smm` switches the mode flag and the address space only: no register changes, nothing is written to SMRAM.
    """

    SIZE: ClassVar[int] = 4

    smm: U8
    """The vCPU is in System Management Mode."""
    pending: U8
    """One SMI is latched; never a count."""
    smm_inside_nmi: U8
    """NMIs were masked already when the SMI came, so RSM leaves them masked."""
    latched_init: U8
    """An INIT waits in the local APIC until SMM is left."""


class KvmVcpuEventsTripleFault(CStruct):
    """kvm_vcpu_events.triple_fault (Linux 6.0)."""

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
    """GET always returns 0."""
    flags: U32
    """`VcpuEventFlags`."""
    smi: KvmVcpuEventsSmi
    triple_fault: KvmVcpuEventsTripleFault
    reserved: Annotated[bytes, CBytes(26)] = bytes(26)
    """The kernel ignores junk here and returns zero. Before Linux 6.0, 27 bytes."""
    exception_has_payload: U8
    exception_payload: U64
    """#PF: the address for CR2. #DB: bits for DR6, all active high."""

    def has(self, flag: VcpuEventFlags) -> bool:
        """Return whether `flags` holds this flag."""
        return bool(self.flags & flag)

    def normalised(self) -> KvmVcpuEvents:
        """Return the events as KVM_SET_VCPU_EVENTS reads them: fields without their flag count as zero.

        With VALID_PAYLOAD a pending exception is not injected as well, and without a pending one there is no payload.
        """
        flag = VcpuEventFlags
        exception, nmi, smi, shadow = self.exception, self.nmi, self.smi, self.interrupt.shadow
        payload = self.has(flag.KVM_VCPUEVENT_VALID_PAYLOAD)
        pending = exception.pending if payload else 0
        injected = 0 if pending else exception.injected
        in_smm = self.has(flag.KVM_VCPUEVENT_VALID_SMM) and smi.smm
        current = shadow.current if self.has(flag.KVM_VCPUEVENT_VALID_SHADOW) else 0
        aside = shadow.smm if in_smm and self.has(flag.KVM_VCPUEVENT_VALID_SMM_SHADOW) else 0
        inside_nmi = smi.smm_inside_nmi if in_smm else 0
        return self.model_copy(
            update={
                "exception": exception.model_copy(update={"pending": pending, "injected": injected}),
                "interrupt": self.interrupt.model_copy(update={"shadow": _SHADOWS[current | aside << 4]}),
                "nmi": nmi if self.has(flag.KVM_VCPUEVENT_VALID_NMI_PENDING) else nmi.model_copy(update={"pending": 0}),
                "sipi_vector": self.sipi_vector if self.has(flag.KVM_VCPUEVENT_VALID_SIPI_VECTOR) else 0,
                "smi": smi.model_copy(update={"smm_inside_nmi": inside_nmi})
                if self.has(flag.KVM_VCPUEVENT_VALID_SMM)
                else KvmVcpuEventsSmi.zero(),
                "triple_fault": self.triple_fault
                if self.has(flag.KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
                else KvmVcpuEventsTripleFault.zero(),
                "reserved": bytes(26),
                "exception_has_payload": self.exception_has_payload if pending else 0,
            }
        )
