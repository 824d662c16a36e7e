"""The local APIC's registers as model-specific registers 0x800 to 0x8FF, in x2APIC mode.

Source: SDM vol. 3A table 11-6; Linux 6.12 arch/x86/kvm/lapic.c kvm_lapic_msr_read(), kvm_lapic_msr_write().
"""

from ..exceptions import general_protection
from .lapic import Lapic
from .lapic_registers import (
    APR,
    DFR,
    EOI,
    ESR,
    ICR,
    ICR2,
    KNOWN,
    LVTS,
    RRD,
    SELF_IPI,
    SPIV,
    TDCR,
    TMICT,
    TPR,
)

X2APIC_FIRST, X2APIC_LAST = 0x800, 0x8FF
_ABSENT = frozenset({APR, RRD, DFR, ICR2})
_READABLE = KNOWN - _ABSENT - {EOI}
_WRITABLE = frozenset({TPR, SPIV, TDCR, TMICT, ICR, *LVTS})
_ONLY_ZERO = frozenset({EOI, ESR})
_SHORTHAND_SELF = 1 << 18
_ICR_BUSY = 1 << 12


def read_register(lapic: Lapic, index: int) -> int:
    """RDMSR of an index in X2APIC_FIRST to X2APIC_LAST.

    Raises:
        GuestFault: #GP(0): not in x2APIC mode, no such register, or one that is only written.
    """
    register = (index - X2APIC_FIRST) << 4
    if not lapic.x2apic or register not in _READABLE:
        raise general_protection()
    high = lapic.read_register(ICR2) << 32 if register == ICR else 0
    return high | lapic.read_register(register)


def write_register(lapic: Lapic, index: int, value: int) -> None:
    """WRMSR of an index in X2APIC_FIRST to X2APIC_LAST.

    Raises:
        GuestFault: #GP(0): not in x2APIC mode, no such register, one that is only read, or a reserved bit.
    """
    register = (index - X2APIC_FIRST) << 4
    if not lapic.x2apic:
        raise general_protection()
    if register == ICR:
        if value & 0xFFFFFFFF & ~(lapic.writable_bits(ICR) | _ICR_BUSY):
            raise general_protection()
        lapic.page.set(ICR2, value >> 32)
    elif register == SELF_IPI:
        if value >> 8:
            raise general_protection()
        lapic.send(_SHORTHAND_SELF | value, 0)
        return
    elif register in _ONLY_ZERO:
        if value:
            raise general_protection()
    elif register not in _WRITABLE or value & ~lapic.writable_bits(register):
        raise general_protection()
    lapic.write_register(register, value & 0xFFFFFFFF)
