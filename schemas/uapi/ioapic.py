"""kvm_irqchip with the I/O APIC's view of the union: 24 pins, each with a redirection entry."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

from ..layout import U32, U64, CArray, CBytes, CStruct, NotInC

KVM_IOAPIC_NUM_PINS = 24
_RESERVED_MASK = (1 << 39) - 1


class RedirectionEntry(NamedTuple):
    """One entry of the redirection table, bit field by bit field; `of` and `bits` are inverse for every value.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h kvm_ioapic_state.redirtbl; Intel 82093AA datasheet 3.2.4.
    """

    vector: int
    delivery_mode: int
    dest_mode: int
    delivery_status: int
    polarity: int
    remote_irr: int
    trig_mode: int
    mask: int
    reserved: int
    """Bits 17 to 55, in place 0 to 38."""
    dest_id: int

    @classmethod
    def of(cls, bits: int) -> RedirectionEntry:
        """Return the fields of an entry."""
        return cls(
            vector=bits & 0xFF,
            delivery_mode=bits >> 8 & 7,
            dest_mode=bits >> 11 & 1,
            delivery_status=bits >> 12 & 1,
            polarity=bits >> 13 & 1,
            remote_irr=bits >> 14 & 1,
            trig_mode=bits >> 15 & 1,
            mask=bits >> 16 & 1,
            reserved=bits >> 17 & _RESERVED_MASK,
            dest_id=bits >> 56 & 0xFF,
        )

    @property
    def bits(self) -> int:
        """Return the entry as its 64 bits."""
        return (
            self.vector
            | self.delivery_mode << 8
            | self.dest_mode << 11
            | self.delivery_status << 12
            | self.polarity << 13
            | self.remote_irr << 14
            | self.trig_mode << 15
            | self.mask << 16
            | self.reserved << 17
            | self.dest_id << 56
        )


class KvmIoapicState(CStruct):
    """struct kvm_ioapic_state; `irr` has a bit per pin whose interrupt waits.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; arch/x86/kvm/ioapic.c kvm_set_ioapic.
    """

    C_NAME: ClassVar[str | None] = "kvm_ioapic_state"
    SIZE: ClassVar[int] = 216

    base_address: U64
    ioregsel: U32
    id: U32
    irr: U32
    pad: U32 = 0
    redirtbl: Annotated[tuple[U64, ...], CArray(KVM_IOAPIC_NUM_PINS)]

    @property
    def entries(self) -> tuple[RedirectionEntry, ...]:
        """Return the redirection table, an entry per pin."""
        return tuple(RedirectionEntry.of(bits) for bits in self.redirtbl)


class KvmIrqchipIoapicChip(CStruct):
    """The union kvm_irqchip.chip, seen as an I/O APIC; the rest of its 512 bytes is carried as it is."""

    SIZE: ClassVar[int] = 512

    ioapic: KvmIoapicState
    rest: Annotated[bytes, CBytes(296), NotInC()] = bytes(296)


class KvmIrqchipIoapic(CStruct):
    """struct kvm_irqchip with chip_id KVM_IRQCHIP_IOAPIC."""

    C_NAME: ClassVar[str | None] = "kvm_irqchip"
    SIZE: ClassVar[int] = 520

    chip_id: U32
    pad: U32 = 0
    chip: KvmIrqchipIoapicChip
