"""kvm_sregs: segments, descriptor tables, control registers, EFER, APIC base."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U8, U16, U32, U64, CArray, CStruct


class KvmSegment(CStruct):
    """struct kvm_segment: a segment register with its hidden part.

    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h.
    """

    C_NAME: ClassVar[str | None] = "kvm_segment"
    SIZE: ClassVar[int] = 24

    base: U64
    limit: U32
    """In bytes: already scaled by `g`."""
    selector: U16
    type: U8
    present: U8
    dpl: U8
    db: U8
    s: U8
    l: U8  # noqa: E741 - the kernel's name
    g: U8
    avl: U8
    unusable: U8
    padding: U8 = 0


class KvmDtable(CStruct):
    """struct kvm_dtable: GDTR or IDTR."""

    C_NAME: ClassVar[str | None] = "kvm_dtable"
    SIZE: ClassVar[int] = 16

    base: U64
    limit: U16
    padding: Annotated[tuple[U16, ...], CArray(3)] = (0, 0, 0)


class SpecialRegisters(CStruct):
    """What kvm_sregs and kvm_sregs2 have in common, offsets 0 to 279. Not a struct of the kernel."""

    SIZE: ClassVar[int] = 280

    cs: KvmSegment
    ds: KvmSegment
    es: KvmSegment
    fs: KvmSegment
    gs: KvmSegment
    ss: KvmSegment
    tr: KvmSegment
    ldt: KvmSegment
    gdt: KvmDtable
    idt: KvmDtable
    cr0: U64
    cr2: U64
    cr3: U64
    cr4: U64
    cr8: U64
    efer: U64
    apic_base: U64


class KvmSregs(SpecialRegisters):
    """struct kvm_sregs.

    The first bit set in `interrupt_bitmap` queues that vector as an injected interrupt on KVM_SET_SREGS; it repeats
    what kvm_vcpu_events.interrupt says, so a restore writes it as zero or writes the events afterwards.
    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; arch/x86/kvm/x86.c __set_sregs.
    """

    C_NAME: ClassVar[str | None] = "kvm_sregs"
    SIZE: ClassVar[int] = 312

    interrupt_bitmap: Annotated[tuple[U64, ...], CArray(4)]
