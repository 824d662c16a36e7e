"""The registers of the local APIC page and their bits, and the redirection entry of the I/O APIC."""

from __future__ import annotations

from typing import NamedTuple

from .bitfields import BitField, RegisterBits

_MODES = {0: "fixed", 1: "lowest", 2: "SMI", 3: "reserved", 4: "NMI", 5: "INIT", 6: "SIPI", 7: "ExtINT"}

VECTOR_BANKS = 8
"""ISR, TMR and IRR are 256 bits each, in eight registers."""


class ApicRegister(NamedTuple):
    """One register of the page: `offset` is that of its 16-byte slot, `bits` the key of REGISTERS or None.

    `reset` is its value after RESET as KVM_GET_LAPIC shows it; None where it depends on the vCPU.
    """

    offset: int
    name: str
    text: str
    bits: str | None = None
    reset: int | None = 0


def _bank(offset: int, name: str, text: str) -> tuple[ApicRegister, ...]:
    return tuple(ApicRegister(offset + 16 * n, f"{name}{n}", text) for n in range(VECTOR_BANKS))


APIC_REGISTERS: tuple[ApicRegister, ...] = (
    ApicRegister(0x20, "ID", "APIC ID: bits 24-31 in xAPIC mode", "apic_id", None),
    ApicRegister(0x30, "LVR", "version", "lvr", None),
    ApicRegister(0x80, "TASKPRI", "task priority", "tpr"),
    ApicRegister(0x90, "ARBPRI", "arbitration priority", "tpr"),
    ApicRegister(0xA0, "PROCPRI", "processor priority", "tpr"),
    ApicRegister(0xB0, "EOI", "end of interrupt"),
    ApicRegister(0xC0, "RRR", "remote read"),
    ApicRegister(0xD0, "LDR", "logical destination", "ldr", None),
    ApicRegister(0xE0, "DFR", "destination format", "dfr", None),
    ApicRegister(0xF0, "SPIV", "spurious vector", "spiv", 0xFF),
    *_bank(0x100, "ISR", "in service"),
    *_bank(0x180, "TMR", "trigger mode: 1 is level"),
    *_bank(0x200, "IRR", "requested"),
    ApicRegister(0x280, "ESR", "errors", "esr"),
    ApicRegister(0x2F0, "LVTCMCI", "corrected machine checks", "lvt", None),
    ApicRegister(0x300, "ICR", "interrupt command, low", "icr_low"),
    ApicRegister(0x310, "ICR2", "interrupt command, high: destination", "icr_high"),
    ApicRegister(0x320, "LVTT", "timer", "lvtt", 0x10000),
    ApicRegister(0x330, "LVTTHMR", "thermal sensor", "lvt", 0x10000),
    ApicRegister(0x340, "LVTPC", "performance counters", "lvt", 0x10000),
    # 0x700 (ExtINT) on the boot processor: KVM_X86_QUIRK_LINT0_REENABLED.
    ApicRegister(0x350, "LVT0", "LINT0", "lvt", None),
    ApicRegister(0x360, "LVT1", "LINT1", "lvt", 0x10000),
    ApicRegister(0x370, "LVTERR", "APIC errors", "lvt", 0x10000),
    ApicRegister(0x380, "TMICT", "timer: initial count"),
    ApicRegister(0x390, "TMCCT", "timer: current count"),
    ApicRegister(0x3E0, "TDCR", "timer: divisor", "tdcr"),
    ApicRegister(0x3F0, "SELF_IPI", "self IPI (x2APIC)"),
)
"""Every register of the page, by offset; the other slots and the upper 12 bytes of each slot are reserved.

Source: SDM vol. 3A table 11-1; Linux 6.12 arch/x86/include/asm/apicdef.h; reset values: arch/x86/kvm/lapic.c
kvm_lapic_reset.
"""

TIMER_DIVISORS: dict[int, int] = {0: 2, 1: 4, 2: 8, 3: 16, 8: 32, 9: 64, 10: 128, 11: 1}
"""TDCR bits 0, 1 and 3 -> by what the bus clock is divided. Source: SDM vol. 3A figure 11-10."""

_LVT = (
    BitField("VECTOR", 0, 8), BitField("MODE", 8, 3, "delivery mode", _MODES),
    BitField("PENDING", 12, text="send pending"),
    BitField("LOW", 13, text="active low"), BitField("REMOTE_IRR", 14), BitField("LEVEL", 15, text="level triggered"),
    BitField("MASKED", 16),
)  # fmt: skip

_ICR_LOW = (
    BitField("VECTOR", 0, 8), BitField("MODE", 8, 3, "delivery mode", _MODES),
    BitField("LOGICAL", 11, text="destination mode"), BitField("PENDING", 12, text="send pending"),
    BitField("ASSERT", 14), BitField("LEVEL", 15, text="level triggered"),
    BitField("SHORTHAND", 18, 2, "destination", {1: "self", 2: "all", 3: "all-but-self"}),
)  # fmt: skip

APIC_BITS: tuple[RegisterBits, ...] = (
    RegisterBits("apic_id", 32, (BitField("ID", 24, 8),), "SDM vol. 3A figure 11-6"),
    RegisterBits(
        "lvr", 32,
        (BitField("VERSION", 0, 8), BitField("MAX_LVT", 16, 8),
         BitField("DIRECTED_EOI", 24, text="EOI broadcast can be suppressed")),
        "SDM vol. 3A figure 11-7",
    ),
    RegisterBits("tpr", 32, (BitField("SUBCLASS", 0, 4), BitField("CLASS", 4, 4)), "SDM vol. 3A figure 11-18"),
    RegisterBits("ldr", 32, (BitField("ID", 24, 8, "logical APIC ID"),), "SDM vol. 3A figure 11-13"),
    RegisterBits("dfr", 32, (BitField("MODEL", 28, 4, "", {0: "cluster", 15: "flat"}),), "SDM vol. 3A figure 11-14",
    ones=0xFFFFFFF),
    RegisterBits(
        "spiv", 32,
        (BitField("VECTOR", 0, 8), BitField("ENABLED", 8), BitField("FOCUS", 9, text="focus checking off"),
         BitField("NO_EOI_BROADCAST", 12)),
        "SDM vol. 3A figure 11-23",
    ),
    RegisterBits(
        "esr", 32,
        tuple(BitField(name, low) for low, name in enumerate(
            ("SEND_CS", "RECV_CS", "SEND_ACC", "RECV_ACC", "REDIRECTABLE_IPI", "SENDILL", "RECVILL", "ILLREGA"))),
        "SDM vol. 3A figure 11-9",
    ),
    RegisterBits("lvt", 32, _LVT, "SDM vol. 3A figure 11-8"),
    RegisterBits(
        "lvtt", 32,
        (BitField("VECTOR", 0, 8), BitField("PENDING", 12), BitField("MASKED", 16),
         BitField("TIMER", 17, 2, "timer mode", {0: "one-shot", 1: "periodic", 2: "TSC-deadline", 3: "reserved"})),
        "SDM vol. 3A figure 11-8",
    ),
    RegisterBits("icr_low", 32, _ICR_LOW, "SDM vol. 3A figure 11-12"),
    RegisterBits("icr_high", 32, (BitField("DEST", 24, 8),), "SDM vol. 3A figure 11-12"),
    RegisterBits("icr", 64, (*_ICR_LOW, BitField("DEST", 32, 32)), "SDM vol. 3A figure 11-28: x2APIC mode"),
    RegisterBits(
        "tdcr", 32,
        (BitField("DIV", 0, 2, "divisor, low bits"), BitField("DIV_HIGH", 3, 1, "divisor, high bit")),
         "SDM vol. 3A figure 11-10",
    ),
    RegisterBits(
        "redirtbl", 64,
        (BitField("VECTOR", 0, 8), BitField("MODE", 8, 3, "delivery mode", _MODES),
         BitField("LOGICAL", 11, text="destination mode"), BitField("PENDING", 12, text="delivery status"),
         BitField("LOW", 13, text="active low"), BitField("REMOTE_IRR", 14),
         BitField("LEVEL", 15, text="level triggered"),
         BitField("MASKED", 16), BitField("DEST", 56, 8)),
        "Linux 6.12 arch/x86/include/uapi/asm/kvm.h kvm_ioapic_state; Intel 82093AA 3.2.4",
    ),
)  # fmt: skip
