"""kvm_debugregs: DR0-DR3, DR6, DR7."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U64, CArray, CStruct


class KvmDebugregs(CStruct):
    """struct kvm_debugregs.

    KVM_SET_DEBUGREGS refuses flags and the upper halves of DR6 and DR7; other values are stored as they are.
    Source: Linux 6.12 arch/x86/kvm/x86.c kvm_vcpu_ioctl_x86_set_debugregs.
    """

    C_NAME: ClassVar[str | None] = "kvm_debugregs"
    SIZE: ClassVar[int] = 128

    db: Annotated[tuple[U64, ...], CArray(4)]
    dr6: U64
    dr7: U64
    flags: U64
    reserved: Annotated[tuple[U64, ...], CArray(9)] = (0,) * 9
