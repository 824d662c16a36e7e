"""kvm_lapic_state: the register page of the local APIC."""

from __future__ import annotations

from typing import Annotated, ClassVar

from ..layout import CBytes, CStruct

KVM_APIC_REG_SIZE = 0x400


class KvmLapicState(CStruct):
    """struct kvm_lapic_state: each register is 32 bits in a 16-byte slot (TPR at 0x80, IRR at 0x200, …).

    The APIC ID is in bits 24-31 of 0x20 in xAPIC mode. KVM_SET_LAPIC restarts the timer from TMCCT, so it comes after
    kvm_sregs (mode by apic_base) and before the MSRs (TSC_DEADLINE).
    Source: Linux 6.12 arch/x86/kvm/lapic.c kvm_apic_set_state; SDM vol. 3A table 12-1.
    """

    C_NAME: ClassVar[str | None] = "kvm_lapic_state"
    SIZE: ClassVar[int] = KVM_APIC_REG_SIZE

    regs: Annotated[bytes, CBytes(KVM_APIC_REG_SIZE)]

    def register(self, offset: int) -> int:
        """Return the 32-bit register at a multiple of 0x10 below 0x400.

        Raises:
            ValueError: there is no register at this offset.
        """
        if offset % 16 or not 0 <= offset < KVM_APIC_REG_SIZE:
            raise ValueError(f"no local APIC register at {offset:#x}")
        return int.from_bytes(self.regs[offset : offset + 4], "little")
