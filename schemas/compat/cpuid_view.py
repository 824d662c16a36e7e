"""CpuidView: the leaves of a CPUID table by number."""

from __future__ import annotations

from typing import Literal

from ..uapi.cpuid2 import KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KvmCpuid2, KvmCpuidEntry2

Register = Literal["eax", "ebx", "ecx", "edx"]
REGISTERS: tuple[Register, ...] = ("eax", "ebx", "ecx", "edx")

HYPERVISOR_BASES = tuple(range(0x40000000, 0x40010000, 0x100))
"""Where a hypervisor's leaves may begin. Source: Linux 6.12 asm/cpuid.h hypervisor_cpuid_base."""
KVM_SIGNATURE = b"KVMKVMKVM\0\0\0"
HYPERV_SIGNATURE = b"Microsoft Hv"
XEN_SIGNATURE = b"XenVMMXenVMM"


class CpuidView:
    """Leaves by (function, subleaf); the first of two equal ones counts, as in KvmCpuid2.leaf."""

    def __init__(self, cpuid: KvmCpuid2) -> None:
        """Index the table once."""
        self.entries = cpuid.entries
        self._indexed: dict[tuple[int, int], KvmCpuidEntry2] = {}
        self._plain: dict[int, KvmCpuidEntry2] = {}
        for entry in cpuid.entries:
            if entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX:
                self._indexed.setdefault((entry.function, entry.index), entry)
            else:
                self._plain.setdefault(entry.function, entry)

    def entry(self, function: int, subleaf: int = 0) -> KvmCpuidEntry2 | None:
        """Return the entry that CPUID would answer from, or None."""
        found = self._indexed.get((function, subleaf))
        return self._plain.get(function) if found is None else found

    def value(self, function: int, subleaf: int, register: Register, low: int = 0, width: int = 32) -> int:
        """Return bits of a register; 0 where there is no such leaf."""
        entry = self.entry(function, subleaf)
        return 0 if entry is None else getattr(entry, register) >> low & (1 << width) - 1

    def bit(self, function: int, subleaf: int, register: Register, bit: int) -> bool:
        """Return one bit."""
        return bool(self.value(function, subleaf, register, bit, 1))

    def hypervisor(self, signature: bytes) -> int | None:
        """Return the first leaf of the hypervisor with this signature (EBX, ECX, EDX), or None."""
        for base in HYPERVISOR_BASES:
            entry = self._plain.get(base) or self._indexed.get((base, 0))
            if entry is None:
                continue
            text = b"".join(word.to_bytes(4, "little") for word in (entry.ebx, entry.ecx, entry.edx))
            if text == signature:
                return base
        return None

    @property
    def family_model_stepping(self) -> int:
        """Return leaf 1 EAX."""
        return self.value(1, 0, "eax")

    @property
    def components(self) -> dict[int, tuple[int, int, int]]:
        """Return the XSAVE components by number: (size in bytes, offset in bytes, ECX of its subleaf).

        The offset is 0 for supervisor components (ECX bit 0). Source: SDM vol. 1 13.2.
        """
        found = {}
        for (function, index), entry in self._indexed.items():
            if function == 0xD and 2 <= index <= 62 and entry.eax:
                found[index] = (entry.eax, entry.ebx, entry.ecx)
        return found

    @property
    def physical_bits(self) -> int | None:
        """Return the width of physical addresses, or None if leaf 0x80000008 does not say."""
        return self.value(0x80000008, 0, "eax", 0, 8) or None

    @property
    def xcr0_mask(self) -> int:
        """Return the user components that XCR0 may enable."""
        return self.value(0xD, 0, "eax") | self.value(0xD, 0, "edx") << 32

    @property
    def xss_mask(self) -> int:
        """Return the supervisor components that IA32_XSS may enable."""
        return self.value(0xD, 1, "ecx") | self.value(0xD, 1, "edx") << 32


LEGACY_PHYSICAL_BITS = 36
"""Physical address bits that a processor with PAE has at least, where leaf 0x80000008 does not say. Source: SDM vol. 3A
4.1.4; Linux 6.12 arch/x86/kvm/cpuid.c cpuid_query_maxphyaddr."""

PER_VCPU: tuple[tuple[int, Register, int], ...] = (
    (0x1, "ebx", 0xFF000000),  # initial APIC id
    (0x1, "ecx", 1 << 27),  # OSXSAVE mirrors CR4
    (0x7, "ecx", 1 << 4),  # OSPKE mirrors CR4
    (0xB, "edx", 0xFFFFFFFF),  # x2APIC id
    (0x1F, "edx", 0xFFFFFFFF),
    (0x8000001E, "eax", 0xFFFFFFFF),  # extended APIC id
    (0x8000001E, "ebx", 0xFF),  # core id
    (0x8000001E, "ecx", 0xFF),  # node id
)
"""Bits that say which vCPU this is or what it did, not what it is."""


def without_identity(cpuid: KvmCpuid2) -> KvmCpuid2:
    """Return the table without the bits that differ between the vCPUs of a VM, so that equal ones compare equal."""
    entries = []
    for entry in cpuid.entries:
        changes: dict[str, int] = {
            register: getattr(entry, register) & ~mask
            for function, register, mask in PER_VCPU
            if entry.function == function and getattr(entry, register) & mask and not (function == 7 and entry.index)
        }
        if entry.function == 0xD and entry.index < 2 and entry.ebx:
            changes["ebx"] = 0  # the size for XCR0, or for XCR0 and XSS, as they are now
        entries.append(entry.model_copy(update=changes) if changes else entry)
    return cpuid.model_copy(update={"entries": tuple(entries)})
