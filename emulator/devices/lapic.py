"""The local APIC in xAPIC and x2APIC mode, in the page of `struct kvm_lapic_state`."""

from collections.abc import Callable

from .lapic_registers import (
    APR,
    DFR,
    EOI,
    ESR,
    ESR_COLLECTED,
    ESR_ILLEGAL_REGISTER,
    ESR_RECEIVED_ILLEGAL_VECTOR,
    ESR_SENT_ILLEGAL_VECTOR,
    ICR,
    ICR2,
    ID,
    IRR,
    ISR,
    KNOWN,
    LDR,
    LVR,
    LVT0,
    LVT_MASKED,
    LVT_MODE_EXTINT,
    LVT_TSC_DEADLINE,
    LVTERR,
    LVTS,
    LVTT,
    PPR,
    REGS_BYTES,
    SPIV,
    SPIV_SOFTWARE_ENABLED,
    TDCR,
    TMCCT,
    TMICT,
    TMR,
    TPR,
    VERSION,
    WRITABLE,
    RegisterPage,
)
from .lapic_timer import LapicTimer

__all__ = [
    "EOI", "ICR", "ICR2", "ID", "IRR", "LVT0", "LVTT", "SPIV", "TDCR", "TMCCT", "TMICT", "TPR", "Lapic",
]  # fmt: skip

APIC_BASE_ENABLE = 1 << 11
APIC_BASE_X2APIC = 1 << 10
DELIVER_FIXED, DELIVER_LOWEST, DELIVER_SMI, DELIVER_NMI, DELIVER_INIT = 0, 1, 2, 4, 5
_ICR_ASSERT = 1 << 14
_LOWEST_VECTOR = 16
_X2APIC_BROADCAST = 0xFFFFFFFF


class Lapic:
    """The local APIC: registers, priorities, self-interrupts, errors, ExtINT gate for the 8259, timer.

    The page is the state; what is computed (PPR, TMCCT) is written into it by `snapshot`. In x2APIC mode ICR2 holds the
    destination, all 32 bits of it. There is one vCPU, number 0: SIPI has nobody to start and is ignored. Directed EOI
    is not offered.

    `now_ns` tells virtual time; `on_change` is called after anything that may change what is pending or due; `on_eoi`
    with the vector of a level-triggered interrupt that has ended. `ns_of_tsc` is that of `LapicTimer`; without it there
    is no TSC-deadline mode.

    Source: SDM vol. 3A chapter 11; Linux 6.12 arch/x86/kvm/lapic.c.
    """

    def __init__(
        self,
        now_ns: Callable[[], int],
        request_smi: Callable[[], None],
        request_nmi: Callable[[], None],
        request_init: Callable[[], None],
        on_change: Callable[[], None],
        on_eoi: Callable[[int], None] = lambda _vector: None,
        ns_of_tsc: Callable[[int], int] | None = None,
    ) -> None:
        self.page = RegisterPage()
        self.timer = LapicTimer(self.page, now_ns, ns_of_tsc or (lambda _tsc: now_ns()))
        self.hardware_enabled = True
        self.x2apic = False
        self._lvts = LVTS if ns_of_tsc is None else {**LVTS, LVTT: LVTS[LVTT] | LVT_TSC_DEADLINE}
        self._requests = {DELIVER_SMI: request_smi, DELIVER_NMI: request_nmi, DELIVER_INIT: request_init}
        self._on_change = on_change
        self._on_eoi = on_eoi
        self.reset()

    def reset(self) -> None:
        """The state after power-up and INIT. Source: SDM vol. 3A 11.4.7.1."""
        page = self.page
        page.data[:] = bytes(REGS_BYTES)
        self.timer.stop()
        page.set(LVR, VERSION)
        page.set(DFR, 0xFFFFFFFF)
        page.set(SPIV, 0xFF)
        for lvt in LVTS:
            page.set(lvt, LVT_MASKED)
        # A PC's firmware leaves the 8259 connected through LINT0; KVM starts so too (LINT0_REENABLED quirk).
        page.set(LVT0, LVT_MODE_EXTINT << 8)
        self._identify()

    def _identify(self) -> None:
        """APIC ID 0 in the form of the mode; x2APIC mode has a fixed logical ID. Source: SDM vol. 3A 11.12.10.2."""
        self.page.set(ID, 0)
        if self.x2apic:
            self.page.set(LDR, 1)

    @property
    def regs(self) -> bytearray:
        """The register page."""
        return self.page.data

    @property
    def deadline_ns(self) -> int | None:
        """When the timer is due."""
        return self.timer.deadline_ns

    # ---- priorities ----

    @property
    def ppr(self) -> int:
        """Processor priority. Source: SDM vol. 3A 11.8.3.1."""
        in_service = max(self.page.highest(ISR), 0)
        tpr = self.page.get(TPR)
        return tpr if tpr >> 4 >= in_service >> 4 else in_service & 0xF0

    @property
    def tpr(self) -> int:
        """Task priority; CR8 is its upper four bits."""
        return self.page.get(TPR)

    def set_tpr(self, value: int) -> None:
        """Write the task priority, also through CR8."""
        self.page.set(TPR, value & 0xFF)
        self._on_change()

    @property
    def software_enabled(self) -> bool:
        """Whether fixed interrupts are accepted."""
        return self.hardware_enabled and bool(self.page.get(SPIV) & SPIV_SOFTWARE_ENABLED)

    def accepts_pic(self) -> bool:
        """Whether the 8259's output reaches the CPU. Source: Linux lapic.c kvm_apic_accept_pic_intr."""
        lvt0 = self.page.get(LVT0)
        return not self.hardware_enabled or (not lvt0 & LVT_MASKED and lvt0 >> 8 & 7 == LVT_MODE_EXTINT)

    def deliverable(self, vector: int) -> bool:
        """Whether `vector` outranks what is in service and the task priority."""
        return vector >> 4 > self.ppr >> 4

    def timer_would_interrupt(self) -> bool:
        """Whether the timer's expiry would interrupt, were it to come now."""
        lvtt = self.page.get(LVTT)
        return self.software_enabled and not lvtt & LVT_MASKED and self.deliverable(lvtt & 0xFF)

    def pending(self) -> int:
        """Vector that asks for service now, or -1."""
        vector = self.page.highest(IRR)
        return vector if vector >= 0 and self.hardware_enabled and self.deliverable(vector) else -1

    # ---- interrupts come and go ----

    def accept(self, vector: int, level: bool = False) -> bool:
        """Take a fixed interrupt; False if the APIC is disabled or the vector below 16."""
        if not self.software_enabled:
            return False
        if vector < _LOWEST_VECTOR:
            self._error(ESR_RECEIVED_ILLEGAL_VECTOR)
            return False
        self.page.put(IRR, vector, on=True)
        self.page.put(TMR, vector, on=level)
        self._on_change()
        return True

    def deliver(self, mode: int, vector: int, level: bool = False) -> bool:
        """Take a message of any delivery mode; False if it is not accepted."""
        if mode in (DELIVER_FIXED, DELIVER_LOWEST):
            return self.accept(vector, level)
        request = self._requests.get(mode) if self.hardware_enabled else None
        if request is not None:
            request()
        return request is not None

    def acknowledge(self, vector: int) -> int:
        """Move `vector` from request to service and return it; with none (-1) return the spurious vector."""
        if vector < 0:
            return self.page.get(SPIV) & 0xFF
        self.page.put(IRR, vector, on=False)
        self.page.put(ISR, vector, on=True)
        self._on_change()
        return vector

    def _end_of_interrupt(self) -> None:
        vector = self.page.highest(ISR)
        if vector >= 0:
            self.page.put(ISR, vector, on=False)
            if self.page.has(TMR, vector):
                self._on_eoi(vector)

    def _error(self, bit: int) -> None:
        """Collect an error and tell of it through LVTERR. An illegal vector there is not told again."""
        self.page.set(ESR_COLLECTED, self.page.get(ESR_COLLECTED) | bit)
        lvt = self.page.get(LVTERR)
        if lvt & LVT_MASKED:
            return
        if lvt & 0xFF < _LOWEST_VECTOR:
            self.page.set(ESR_COLLECTED, self.page.get(ESR_COLLECTED) | ESR_RECEIVED_ILLEGAL_VECTOR)
        else:
            self.accept(lvt & 0xFF)

    def due(self, now_ns: int) -> None:
        """Deliver the timer's expiry up to `now_ns`."""
        if self.timer.expire(now_ns):
            lvtt = self.page.get(LVTT)
            if not lvtt & LVT_MASKED:
                self.accept(lvtt & 0xFF)

    def addressed_by(self, destination: int, logical: bool, is_message: bool = False) -> bool:
        """Whether a destination is this APIC. `is_message`: it comes from a device, with 8 bits, not from an ICR.

        Source: SDM vol. 3A 11.6.2; Linux 6.12 lapic.c kvm_apic_match_dest().
        """
        if self.x2apic:
            if destination == (0xFF if is_message else _X2APIC_BROADCAST):
                return True
            own = self.page.get(LDR)
            same_cluster = destination >> 16 == own >> 16
            return same_cluster and bool(destination & own & 0xFFFF) if logical else destination == self.page.get(ID)
        if destination == 0xFF:
            return True
        if not logical:
            return destination == self.page.get(ID) >> 24
        own = self.page.get(LDR) >> 24
        if self.page.get(DFR) >> 28 == 0xF:
            return bool(destination & own)
        return destination >> 4 == own >> 4 and bool(destination & own & 0xF)

    def send(self, icr: int, destination: int) -> None:
        """Send what an ICR says, as far as it concerns this vCPU."""
        mode, vector = icr >> 8 & 7, icr & 0xFF
        if mode in (DELIVER_FIXED, DELIVER_LOWEST) and vector < _LOWEST_VECTOR:
            self._error(ESR_SENT_ILLEGAL_VECTOR)
            return
        shorthand = icr >> 18 & 3
        addressed = shorthand != 3 if shorthand else self.addressed_by(destination, bool(icr & 1 << 11))
        if addressed and (mode != DELIVER_INIT or icr & _ICR_ASSERT):
            self.deliver(mode, vector)

    # ---- registers ----

    def set_mode(self, enabled: bool, x2apic: bool) -> None:
        """Follow bits 11 and 10 of IA32_APIC_BASE."""
        self.hardware_enabled = enabled
        if x2apic != self.x2apic:
            self.x2apic = x2apic
            self._identify()
        self._on_change()

    def set_hardware_enabled(self, enabled: bool) -> None:
        """Follow bit 11 of IA32_APIC_BASE, in xAPIC mode."""
        self.set_mode(enabled, False)

    def writable_bits(self, register: int) -> int:
        """What a guest may write into a register; 0 for one that it may not write."""
        return self._lvts.get(register, WRITABLE.get(register, 0))

    def read_register(self, register: int) -> int:
        """The value of a register as it is now."""
        match register:
            case _ if register == TMCCT:
                return self.timer.count
            case _ if register == PPR:
                return self.ppr
            case _:
                return self.page.get(register)

    def write_register(self, register: int, value: int) -> None:
        """Write a register's writable bits and do what follows."""
        page, old = self.page, self.page.get(register)
        bits = self.writable_bits(register)
        if register in self._lvts:
            masked = 0 if page.get(SPIV) & SPIV_SOFTWARE_ENABLED else LVT_MASKED
            page.set(register, value & bits | masked)
            if register == LVTT:
                self.timer.mode_changed(old)
        elif register == EOI:
            self._end_of_interrupt()
        elif register == ESR:
            page.set(ESR, page.get(ESR_COLLECTED))
            page.set(ESR_COLLECTED, 0)
        elif register == TDCR:
            self.timer.set_divider(value & bits)
        elif register == TMICT:
            if not self.timer.waits_for_tsc:
                page.set(TMICT, value & bits)
                self.timer.start(value & bits)
        elif bits:
            page.set(register, value & bits | (0x0FFFFFFF if register == DFR else 0))
            self._after_write(register, value)
        self._on_change()

    def _after_write(self, register: int, value: int) -> None:
        if register == ICR:
            self.send(value, self.page.get(ICR2) if self.x2apic else self.page.get(ICR2) >> 24)
        elif register == SPIV and not value & SPIV_SOFTWARE_ENABLED:
            for lvt in LVTS:
                self.page.set(lvt, self.page.get(lvt) | LVT_MASKED)

    def mmio_read(self, offset: int, size: int) -> int:
        """Read a register; bytes of the aligned 32-bit register are picked, as KVM does."""
        register = offset & ~0xF
        if register not in KNOWN:
            self._error(ESR_ILLEGAL_REGISTER)
            return 0
        if offset & 0xF > 3 or register in (EOI, APR):
            return 0
        return self.read_register(register) >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    def mmio_write(self, offset: int, size: int, value: int) -> None:
        """Write a register; only aligned 32-bit writes count. Source: SDM vol. 3A 11.4.1."""
        if size != 4 or offset & 0xF:
            return
        if offset in KNOWN:
            self.write_register(offset, value)
        else:
            self._error(ESR_ILLEGAL_REGISTER)

    @property
    def tsc_deadline(self) -> int:
        """IA32_TSC_DEADLINE."""
        return self.timer.tsc_deadline

    def set_tsc_deadline(self, value: int) -> None:
        """Write IA32_TSC_DEADLINE."""
        self.timer.set_tsc_deadline(value)
        self._on_change()

    def snapshot(self) -> bytes:
        """The page of `struct kvm_lapic_state`, PPR and the timer's current count written into it."""
        self.page.set(PPR, self.ppr)
        self.page.set(TMCCT, self.timer.count)
        return bytes(self.regs)

    def load(self, regs: bytes) -> None:
        """Take the page over; the timer goes on from its current count, a TSC deadline is set afterwards."""
        self.regs[:] = regs
        self.timer.stop()
        self.timer.start(self.page.get(TMCCT))
        self._on_change()
