"""The local APIC's register page: offsets, what a guest may write, and 256-bit vector sets.

Source: SDM vol. 3A table 11-1, figures 11-8 to 11-23.
"""

from struct import Struct

REGS_BYTES = 0x400
ID, LVR, TPR, APR, PPR, EOI, RRD, LDR, DFR, SPIV = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR2 = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVTT, LVTTHMR, LVTPC, LVT0, LVT1, LVTERR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
TMICT, TMCCT, TDCR, SELF_IPI = 0x380, 0x390, 0x3E0, 0x3F0

ESR_COLLECTED = ESR + 4
"""Errors since ESR was last written. The place is ours: it lies in the unused bytes of ESR's slot, so that
`struct kvm_lapic_state` carries it; KVM reports no errors and keeps the bytes."""
ESR_SENT_ILLEGAL_VECTOR, ESR_RECEIVED_ILLEGAL_VECTOR, ESR_ILLEGAL_REGISTER = 1 << 5, 1 << 6, 1 << 7

VERSION = 0x50014
"""Version 0x14, six local vector entries. Source: Linux 6.12 arch/x86/kvm/lapic.c kvm_apic_set_version."""
SPIV_SOFTWARE_ENABLED = 1 << 8
LVT_MASKED = 1 << 16
LVT_PERIODIC = 1 << 17
LVT_TSC_DEADLINE = 1 << 18
LVT_MODE_EXTINT = 7

LVTS = {LVTT: 0x310FF, LVTTHMR: 0x117FF, LVTPC: 0x117FF, LVT0: 0x1F7FF, LVT1: 0x1F7FF, LVTERR: 0x110FF}
"""Local vector table registers and the bits that a guest may write; LVT_TSC_DEADLINE only where the model has it."""
WRITABLE = {
    TPR: 0xFF,
    ID: 0xFF000000,
    LDR: 0xFF000000,
    DFR: 0xFFFFFFFF,
    SPIV: 0x1FF,
    ICR2: 0xFF000000,
    ICR: 0x000CCFFF,
    TDCR: 0xB,
    TMICT: 0xFFFFFFFF,
}
_VECTOR_SETS = frozenset(base + 0x10 * word for base in (ISR, TMR, IRR) for word in range(8))
KNOWN = frozenset({LVR, APR, PPR, EOI, RRD, ESR, TMCCT, *LVTS, *WRITABLE, *_VECTOR_SETS})
"""Registers of the xAPIC page; any other address is the error "illegal register address"."""

_U32 = Struct("<I")


class RegisterPage:
    """The bytes of `struct kvm_lapic_state`, by register."""

    def __init__(self) -> None:
        self.data = bytearray(REGS_BYTES)

    def get(self, register: int) -> int:
        """The 32-bit register at an offset."""
        value: int = _U32.unpack_from(self.data, register)[0]
        return value

    def set(self, register: int, value: int) -> None:
        """Write the 32-bit register at an offset."""
        _U32.pack_into(self.data, register, value)

    def highest(self, base: int) -> int:
        """Highest vector set in the 256-bit register at `base`, or -1."""
        for word in range(7, -1, -1):
            value = self.get(base + 0x10 * word)
            if value:
                return 32 * word + value.bit_length() - 1
        return -1

    def has(self, base: int, vector: int) -> bool:
        """Whether `vector` is in the 256-bit register at `base`."""
        return bool(self.get(base + 0x10 * (vector >> 5)) >> (vector & 31) & 1)

    def put(self, base: int, vector: int, on: bool) -> None:
        """Set or clear `vector` in the 256-bit register at `base`."""
        register = base + 0x10 * (vector >> 5)
        mask = 1 << (vector & 31)
        self.set(register, self.get(register) | mask if on else self.get(register) & ~mask)
