"""kvm_sregs2: kvm_sregs with the PAE page-directory pointers in place of the interrupt bitmap."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import U64, CArray
from .sregs import SpecialRegisters

KVM_SREGS2_FLAGS_PDPTRS_VALID = 1
"""`pdptrs` holds the values in use; allowed only under PAE paging. Other flags give EINVAL."""


class KvmSregs2(SpecialRegisters):
    """struct kvm_sregs2 (Linux 5.14).

    Under PAE paging the four pointers are loaded by MOV CR3 and may differ from memory: only this section carries them.
    Source: Linux 6.12 arch/x86/include/uapi/asm/kvm.h; commit 6dba94035203.
    """

    C_NAME: ClassVar[str | None] = "kvm_sregs2"
    SIZE: ClassVar[int] = 320

    flags: U64
    pdptrs: Annotated[tuple[U64, ...], CArray(4)]
