"""kvm_irqchip: the two 8259 interrupt controllers, one struct each."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar

from ..layout import U8, U32, CBytes, CStruct, NotInC


class ChipId(IntEnum):
    """kvm_irqchip.chip_id."""

    KVM_IRQCHIP_PIC_MASTER = 0
    KVM_IRQCHIP_PIC_SLAVE = 1
    KVM_IRQCHIP_IOAPIC = 2


class KvmPicState(CStruct):
    """struct kvm_pic_state.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; arch/x86/kvm/i8259.c.
    """

    C_NAME: ClassVar[str | None] = "kvm_pic_state"
    SIZE: ClassVar[int] = 16

    last_irr: U8
    irr: U8
    imr: U8
    isr: U8
    priority_add: U8
    irq_base: U8
    read_reg_select: U8
    poll: U8
    special_mask: U8
    init_state: U8
    auto_eoi: U8
    rotate_on_auto_eoi: U8
    special_fully_nested_mode: U8
    init4: U8
    elcr: U8
    elcr_mask: U8


class KvmIrqchipChip(CStruct):
    """The union kvm_irqchip.chip, seen as a PIC; the rest of its 512 bytes is carried as it is."""

    SIZE: ClassVar[int] = 512

    pic: KvmPicState
    rest: Annotated[bytes, CBytes(496), NotInC()] = bytes(496)


class KvmIrqchip(CStruct):
    """struct kvm_irqchip with the PIC's view of the union."""

    C_NAME: ClassVar[str | None] = "kvm_irqchip"
    SIZE: ClassVar[int] = 520

    chip_id: U32
    pad: U32 = 0
    chip: KvmIrqchipChip
