"""kvm_xcrs: extended control registers; only XCR0 exists."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U32, U64, CArray, CStruct

KVM_MAX_XCRS = 16


class KvmXcr(CStruct):
    """struct kvm_xcr: number and value of one register."""

    C_NAME: ClassVar[str | None] = "kvm_xcr"
    SIZE: ClassVar[int] = 16

    xcr: U32
    reserved: U32 = 0
    value: U64


class KvmXcrs(CStruct):
    """struct kvm_xcrs; `nr_xcrs` is 1, or 0 where the host has no XSAVE.

    Source: Linux 6.12 arch/x86/kvm/x86.c kvm_vcpu_ioctl_x86_set_xcrs.
    """

    C_NAME: ClassVar[str | None] = "kvm_xcrs"
    SIZE: ClassVar[int] = 392

    nr_xcrs: U32
    flags: U32
    xcrs: Annotated[tuple[KvmXcr, ...], CArray(KVM_MAX_XCRS)]
    padding: Annotated[tuple[U64, ...], CArray(16)] = (0,) * 16

    @property
    def xcr0(self) -> int | None:
        """Return XCR0, or None if the list does not hold it."""
        held = self.xcrs[: min(self.nr_xcrs, KVM_MAX_XCRS)]
        return next((entry.value for entry in held if entry.xcr == 0), None)
