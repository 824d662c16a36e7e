"""kvm_regs: general registers, RIP, RFLAGS."""

from __future__ import annotations

from typing import ClassVar

from ..layout import U64, CStruct


class KvmRegs(CStruct):
    """struct kvm_regs, in the kernel's order, which is not the hardware encoding.

    KVM_SET_REGS clears a pending exception and forces RFLAGS bit 1, so it comes before the events.
    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; arch/x86/kvm/x86.c __set_regs.
    """

    C_NAME: ClassVar[str | None] = "kvm_regs"
    SIZE: ClassVar[int] = 144

    rax: U64
    rbx: U64
    rcx: U64
    rdx: U64
    rsi: U64
    rdi: U64
    rsp: U64
    rbp: U64
    r8: U64
    r9: U64
    r10: U64
    r11: U64
    r12: U64
    r13: U64
    r14: U64
    r15: U64
    rip: U64
    rflags: U64
