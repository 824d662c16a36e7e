"""The local APIC's timer: one-shot, periodic and TSC-deadline, in virtual time."""

from collections.abc import Callable

from .lapic_registers import LVT_PERIODIC, LVT_TSC_DEADLINE, LVTT, TDCR, TMICT, RegisterPage

_MODE = LVT_PERIODIC | LVT_TSC_DEADLINE


class LapicTimer:
    """Counts at 1 GHz of virtual time through its divider, or waits for the time-stamp counter.

    The divider runs freely from virtual time 0: so the current count and the time together give the deadline exactly,
    and nothing is lost in `struct kvm_lapic_state`. The TSC deadline travels as MSR 0x6E0.

    `now_ns` tells virtual time, `ns_of_tsc` when the guest's time-stamp counter reaches a value that it has not
    reached yet, or the present time.

    Source: SDM vol. 3A 11.5.4; Linux 6.12 arch/x86/kvm/lapic.c apic_update_lvtt(), start_apic_timer().
    """

    def __init__(self, page: RegisterPage, now_ns: Callable[[], int], ns_of_tsc: Callable[[int], int]) -> None:
        self._page = page
        self._now_ns = now_ns
        self._ns_of_tsc = ns_of_tsc
        self.deadline_ns: int | None = None
        self._tsc_deadline = 0

    @property
    def waits_for_tsc(self) -> bool:
        """Whether LVTT says TSC-deadline mode."""
        return self._page.get(LVTT) & _MODE == LVT_TSC_DEADLINE

    @property
    def tsc_deadline(self) -> int:
        """IA32_TSC_DEADLINE: 0 while it is not armed or the mode is another."""
        return self._tsc_deadline

    def set_tsc_deadline(self, value: int) -> None:
        """Write IA32_TSC_DEADLINE: ignored in the other modes, 0 disarms."""
        if self.waits_for_tsc:
            self._tsc_deadline = value
            self.deadline_ns = self._ns_of_tsc(value) if value else None

    def tsc_changed(self) -> None:
        """The time-stamp counter was set: the deadline comes at another time."""
        self.set_tsc_deadline(self._tsc_deadline)

    def mode_changed(self, old_lvtt: int) -> None:
        """LVTT was written: going to or from TSC-deadline mode disarms."""
        if (old_lvtt & _MODE == LVT_TSC_DEADLINE) != self.waits_for_tsc:
            self._page.set(TMICT, 0)
            self.stop()

    def stop(self) -> None:
        """Disarm."""
        self.deadline_ns = None
        self._tsc_deadline = 0

    def expire(self, now_ns: int) -> bool:
        """Whether the timer is due at `now_ns`; a periodic one goes on with the next period."""
        if self.deadline_ns is None or self.deadline_ns > now_ns:
            return False
        period_ns = self._page.get(TMICT) * self._divisor()
        if self._page.get(LVTT) & _MODE == LVT_PERIODIC and period_ns:
            self.deadline_ns += ((now_ns - self.deadline_ns) // period_ns + 1) * period_ns
        else:
            self.stop()
        return True

    def _divisor(self) -> int:
        code = self._page.get(TDCR)
        return 1 << (((code & 3 | code >> 1 & 4) + 1) & 7)

    @property
    def count(self) -> int:
        """Current count; 0 in TSC-deadline mode."""
        if self.deadline_ns is None or self.waits_for_tsc:
            return 0
        divisor = self._divisor()
        return max(self.deadline_ns // divisor - self._now_ns() // divisor, 0)

    def start(self, count: int) -> None:
        """Count down from `count`; 0 stops. In TSC-deadline mode nothing happens."""
        if not self.waits_for_tsc:
            divisor = self._divisor()
            self.deadline_ns = (self._now_ns() // divisor + count) * divisor if count else None

    def set_divider(self, code: int) -> None:
        """Write TDCR; the count goes on from where it is."""
        count = self.count
        self._page.set(TDCR, code)
        self.start(count)
