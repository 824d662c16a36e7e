"""kvm_cpuid2: what CPUID tells the guest."""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, ClassVar

from ..layout import U32, CArray, CFlexArray, CStruct

KVM_MAX_CPUID_ENTRIES = 256
"""The kernel's own bound. Source: Linux 6.12 arch/x86/include/asm/kvm_host.h."""


class CpuidFlags(IntFlag):
    """kvm_cpuid_entry2.flags; the kernel's spelling. The last two are of processors that nobody builds any more."""

    KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1
    KVM_CPUID_FLAG_STATEFUL_FUNC = 2
    KVM_CPUID_FLAG_STATE_READ_NEXT = 4


KVM_CPUID_FLAG_SIGNIFCANT_INDEX = int(CpuidFlags.KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
"""`index` counts."""


class KvmCpuidEntry2(CStruct):
    """struct kvm_cpuid_entry2: one leaf or subleaf."""

    C_NAME: ClassVar[str | None] = "kvm_cpuid_entry2"
    SIZE: ClassVar[int] = 40

    function: U32
    index: U32
    flags: U32
    eax: U32
    ebx: U32
    ecx: U32
    edx: U32
    padding: Annotated[tuple[U32, ...], CArray(3)] = (0, 0, 0)


class KvmCpuid2(CStruct):
    """struct kvm_cpuid2.

    It decides which control-register bits, MSRs and XSAVE components are valid, and which SMRAM map an SMI uses (bit 29
    of 0x80000001 EDX), so it is restored first. KVM refuses changes after the first run (Linux 5.16).
    Source: Linux 6.12 arch/x86/kvm/cpuid.c kvm_set_cpuid; arch/x86/kvm/smm.c enter_smm.
    """

    C_NAME: ClassVar[str | None] = "kvm_cpuid2"
    SIZE: ClassVar[int] = 8

    nent: U32
    padding: U32 = 0
    entries: Annotated[tuple[KvmCpuidEntry2, ...], CFlexArray(KVM_MAX_CPUID_ENTRIES, count="nent")]

    def leaf(self, function: int, index: int = 0) -> KvmCpuidEntry2 | None:
        """Return the entry that CPUID would answer from, or None."""
        return next(
            (
                entry
                for entry in self.entries
                if entry.function == function
                and (entry.index == index or not entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
            ),
            None,
        )

    @property
    def vendor(self) -> str | None:
        """Return the vendor string of leaf 0 (EBX, EDX, ECX), or None if there is no such leaf."""
        return vendor_of(self.leaf(0))


def vendor_of(leaf_0: KvmCpuidEntry2 | None) -> str | None:
    """Return the vendor string that leaf 0 spells in EBX, EDX, ECX; None without the leaf."""
    if leaf_0 is None:
        return None
    text = b"".join(value.to_bytes(4, "little") for value in (leaf_0.ebx, leaf_0.edx, leaf_0.ecx))
    return text.decode("ascii", "replace")
