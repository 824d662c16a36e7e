"""The local APIC in xAPIC mode, in the page of `struct kvm_lapic_state`."""

from collections.abc import Callable
from struct import Struct

REGS_BYTES = 0x400
ID, LVR, TPR, PPR, EOI, LDR, DFR, SPIV = 0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR2 = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVTT, LVTTHMR, LVTPC, LVT0, LVT1, LVTERR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
TMICT, TMCCT, TDCR = 0x380, 0x390, 0x3E0

VERSION = 0x50014
"""Version 0x14, six local vector entries. Source: Linux 6.12 arch/x86/kvm/lapic.c kvm_apic_set_version."""
APIC_BASE_ENABLE = 1 << 11
SPIV_SOFTWARE_ENABLED = 1 << 8
LVT_MASKED = 1 << 16
LVT_PERIODIC = 1 << 17
LVT_MODE_EXTINT = 7

_LVTS = {LVTT: 0x310FF, LVTTHMR: 0x117FF, LVTPC: 0x117FF, LVT0: 0x1F7FF, LVT1: 0x1F7FF, LVTERR: 0x110FF}
"""Local vector table registers and the bits that a guest may write."""
_WRITABLE = {
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
_DELIVER_FIXED, _DELIVER_LOWEST, _DELIVER_SMI, _DELIVER_NMI, _DELIVER_INIT = 0, 1, 2, 4, 5
_ICR_ASSERT = 1 << 14
_U32 = Struct("<I")


class Lapic:
    """The local APIC: registers, priorities, self-interrupts, ExtINT gate for the 8259, timer.

    The page is the state; what is computed (PPR, TMCCT) is written into it by `snapshot`. The timer counts at
    1 GHz of virtual time through its divider, which runs freely from virtual time 0: so the current count and the
    time together give the deadline exactly, and nothing is lost in `struct kvm_lapic_state`. There is one vCPU:
    SIPI has nobody to start and is ignored. TSC-deadline mode and x2APIC are not in the CPU model.

    `now_ns` tells virtual time; `on_change` is called after anything that may change what is pending or due.

    Source: SDM vol. 3A chapter 11; Linux 6.12 arch/x86/kvm/lapic.c.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        request_smi: Callable[[], None],
        request_nmi: Callable[[], None],
        request_init: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self.regs = bytearray(REGS_BYTES)
        self.hardware_enabled = True
        self.deadline_ns: int | None = None
        self._now_ns = now_ns
        self._request_smi = request_smi
        self._request_nmi = request_nmi
        self._request_init = request_init
        self._on_change = on_change
        self._reset()

    def _reset(self) -> None:
        self._set(LVR, VERSION)
        self._set(DFR, 0xFFFFFFFF)
        self._set(SPIV, 0xFF)
        for lvt in _LVTS:
            self._set(lvt, LVT_MASKED)
        # A PC's firmware leaves the 8259 connected through LINT0; KVM starts so too (LINT0_REENABLED quirk).
        self._set(LVT0, LVT_MODE_EXTINT << 8)

    def _get(self, register: int) -> int:
        value: int = _U32.unpack_from(self.regs, register)[0]
        return value

    def _set(self, register: int, value: int) -> None:
        _U32.pack_into(self.regs, register, value)

    def _highest(self, base: int) -> int:
        """Highest vector set in the 256-bit register at `base`, or -1."""
        for word in range(7, -1, -1):
            value = self._get(base + 0x10 * word)
            if value:
                return 32 * word + value.bit_length() - 1
        return -1

    def _bit(self, base: int, vector: int, on: bool) -> None:
        register = base + 0x10 * (vector >> 5)
        mask = 1 << (vector & 31)
        self._set(register, self._get(register) | mask if on else self._get(register) & ~mask)

    @property
    def ppr(self) -> int:
        """Processor priority. Source: SDM vol. 3A 11.8.3.1."""
        in_service = max(self._highest(ISR), 0)
        tpr = self._get(TPR)
        return tpr if tpr >> 4 >= in_service >> 4 else in_service & 0xF0

    @property
    def software_enabled(self) -> bool:
        """Whether fixed interrupts are accepted."""
        return self.hardware_enabled and bool(self._get(SPIV) & SPIV_SOFTWARE_ENABLED)

    def accepts_pic(self) -> bool:
        """Whether the 8259's output reaches the CPU. Source: Linux lapic.c kvm_apic_accept_pic_intr."""
        lvt0 = self._get(LVT0)
        return not self.hardware_enabled or (not lvt0 & LVT_MASKED and lvt0 >> 8 & 7 == LVT_MODE_EXTINT)

    def deliverable(self, vector: int) -> bool:
        """Whether `vector` outranks what is in service and the task priority."""
        return vector >> 4 > self.ppr >> 4

    def timer_would_interrupt(self) -> bool:
        """Whether the timer's expiry would interrupt, were it to come now."""
        lvtt = self._get(LVTT)
        return self.software_enabled and not lvtt & LVT_MASKED and self.deliverable(lvtt & 0xFF)

    def pending(self) -> int:
        """Vector that asks for service now, or -1."""
        vector = self._highest(IRR)
        return vector if vector >= 0 and self.hardware_enabled and self.deliverable(vector) else -1

    def accept(self, vector: int) -> bool:
        """Take a fixed, edge-triggered interrupt; False if the APIC is disabled or the vector below 16."""
        if not self.software_enabled or vector < 16:
            return False
        self._bit(IRR, vector, on=True)
        self._bit(TMR, vector, on=False)
        self._on_change()
        return True

    def acknowledge(self, vector: int) -> None:
        """Move `vector` from request to service."""
        self._bit(IRR, vector, on=False)
        self._bit(ISR, vector, on=True)
        self._on_change()

    def set_tpr(self, value: int) -> None:
        """Write the task priority, also through CR8."""
        self._set(TPR, value & 0xFF)
        self._on_change()

    @property
    def tpr(self) -> int:
        """Task priority; CR8 is its upper four bits."""
        return self._get(TPR)

    def set_hardware_enabled(self, enabled: bool) -> None:
        """Follow bit 11 of IA32_APIC_BASE."""
        self.hardware_enabled = enabled
        self._on_change()

    def due(self, now_ns: int) -> None:
        """Deliver the timer's expiry up to `now_ns`."""
        if self.deadline_ns is None or self.deadline_ns > now_ns:
            return
        lvtt = self._get(LVTT)
        period_ns = self._get(TMICT) * self._divisor()
        if lvtt & LVT_PERIODIC and period_ns:
            self.deadline_ns += ((now_ns - self.deadline_ns) // period_ns + 1) * period_ns
        else:
            self.deadline_ns = None
        if not lvtt & LVT_MASKED:
            self.accept(lvtt & 0xFF)

    def _divisor(self) -> int:
        code = self._get(TDCR)
        return 1 << (((code & 3 | code >> 1 & 4) + 1) & 7)

    def _current_count(self) -> int:
        if self.deadline_ns is None:
            return 0
        divisor = self._divisor()
        return max(self.deadline_ns // divisor - self._now_ns() // divisor, 0)

    def _start_timer(self, count: int) -> None:
        divisor = self._divisor()
        self.deadline_ns = (self._now_ns() // divisor + count) * divisor if count else None
        self._on_change()

    def mmio_read(self, offset: int, size: int) -> int:
        """Read a register; bytes of the aligned 32-bit register are picked, as KVM does."""
        register = offset & ~0xF
        if offset & 0xF > 3 or register >= REGS_BYTES:
            return 0
        value = self._current_count() if register == TMCCT else self.ppr if register == PPR else self._get(register)
        return value >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Write a register; only aligned 32-bit writes count. Source: SDM vol. 3A 11.4.1."""
        if size != 4 or offset & 0xF or offset >= REGS_BYTES:
            return
        if offset in _LVTS:
            masked = 0 if self._get(SPIV) & SPIV_SOFTWARE_ENABLED else LVT_MASKED
            self._set(offset, value & _LVTS[offset] | masked)
        elif offset == EOI:
            vector = self._highest(ISR)
            if vector >= 0:
                self._bit(ISR, vector, on=False)
        elif offset == ESR:
            self._set(ESR, 0)
        elif offset == TDCR:
            count = self._current_count()
            self._set(TDCR, value & _WRITABLE[TDCR])
            self._start_timer(count)
        elif offset in _WRITABLE:
            self._set(offset, value & _WRITABLE[offset] | (0x0FFFFFFF if offset == DFR else 0))
            self._after_write(offset, value)
        self._on_change()

    def _after_write(self, register: int, value: int) -> None:
        if register == ICR:
            self._send(value)
        elif register == TMICT:
            self._start_timer(value)
        elif register == SPIV and not value & SPIV_SOFTWARE_ENABLED:
            for lvt in _LVTS:
                self._set(lvt, self._get(lvt) | LVT_MASKED)

    def _send(self, icr: int) -> None:
        if not self._addresses_self(icr):
            return
        match icr >> 8 & 7:
            case mode if mode in (_DELIVER_FIXED, _DELIVER_LOWEST):
                self.accept(icr & 0xFF)
            case mode if mode == _DELIVER_SMI:
                self._request_smi()
            case mode if mode == _DELIVER_NMI:
                self._request_nmi()
            case mode if mode == _DELIVER_INIT and icr & _ICR_ASSERT:
                self._request_init()

    def _addresses_self(self, icr: int) -> bool:
        shorthand = icr >> 18 & 3
        if shorthand:
            return shorthand != 3
        destination = self._get(ICR2) >> 24
        if icr & 1 << 11:
            return bool(destination & self._get(LDR) >> 24)
        return destination in (self._get(ID) >> 24, 0xFF)

    def snapshot(self) -> bytes:
        """The page of `struct kvm_lapic_state`, PPR and the timer's current count written into it."""
        self._set(PPR, self.ppr)
        self._set(TMCCT, self._current_count())
        return bytes(self.regs)

    def load(self, regs: bytes) -> None:
        """Take the page over; the timer goes on from its current count."""
        self.regs[:] = regs
        self._start_timer(self._get(TMCCT))
