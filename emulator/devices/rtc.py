"""The real-time clock MC146818 with its CMOS memory, on virtual time."""

from calendar import timegm
from collections.abc import Callable
from time import gmtime
from typing import Any

INDEX_PORT, DATA_PORT = 0x70, 0x71
RTC_IRQ = 8
CMOS_BYTES = 128
NS_PER_S = 1_000_000_000

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM = range(6)
WEEKDAY, DAY, MONTH, YEAR, REG_A, REG_B, REG_C, REG_D = range(6, 14)
CENTURY = 0x32
B_SET, B_PERIODIC, B_ALARM, B_UPDATE, B_BINARY, B_24H = 0x80, 0x40, 0x20, 0x10, 4, 2
_ENABLES = B_PERIODIC | B_ALARM | B_UPDATE
C_REQUEST, C_PERIODIC, C_ALARM, C_UPDATE = 0x80, 0x40, 0x20, 0x10
A_UPDATING = 0x80
_A_RUNNING = 0x20
D_VALID = 0x80
UPDATE_NS = 244_000
"""UIP is set so long before an update. Source: MC146818 data sheet, "Update cycle"."""
CRYSTAL_HZ = 32768

_TIME_REGISTERS = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)
_ALARM_ANY = 0xC0
_ANY, _NEVER = -1, -2
_DAY_S = 86400


class Rtc:
    """Clock and 128 bytes of CMOS at ports 0x70 and 0x71.

    The time of day is `offset_s` seconds plus virtual time; while it is stopped (register B bit 7) it is the bytes that
    the guest sees. Flags that came since register C was last read follow from `seen_ns`, so that no event is needed
    for interrupts that nobody enabled. The line is up from the first enabled flag until register C is read.

    `now_ns` tells virtual time, `set_irq` drives the line, `on_change` is called when the next event may have moved.

    Source: Motorola MC146818A data sheet; SeaBIOS src/hw/rtc.h for the bytes that firmware reads.
    """

    def __init__(
        self,
        start_s: int,
        now_ns: Callable[[], int],
        set_irq: Callable[[int], None],
        on_change: Callable[[], None],
    ) -> None:
        self.cmos = bytearray(CMOS_BYTES)
        self.cmos[REG_A] = 0x26
        self.cmos[REG_B] = B_24H
        self.index = 0
        self.flags = 0
        self.offset_s = start_s
        self.seen_ns = 0
        self.deadline_ns: int | None = None
        self._now_ns = now_ns
        self._set_irq = set_irq
        self._on_change = on_change

    # ---- CMOS that firmware reads ----

    def describe_memory(self, low_bytes: int, high_bytes: int) -> None:
        """Memory sizes: below 4 GiB, and from there on. Source: SeaBIOS src/fw/paravirt.c qemu_early_e820()."""
        self._put(0x15, 2, 640)
        extended = min(max(low_bytes - (1 << 20), 0) >> 10, 0xFFFF)
        self._put(0x17, 2, extended)
        self._put(0x30, 2, extended)
        self._put(0x34, 2, max(low_bytes - (16 << 20), 0) >> 16)
        self._put(0x5B, 3, high_bytes >> 16)
        total = sum(self.cmos[0x10:0x2E])
        self.cmos[0x2E], self.cmos[0x2F] = total >> 8 & 0xFF, total & 0xFF

    def _put(self, register: int, size: int, value: int) -> None:
        self.cmos[register : register + size] = value.to_bytes(size, "little")

    # ---- time of day ----

    def _encode(self, value: int) -> int:
        return value if self.cmos[REG_B] & B_BINARY else int(str(value), 16)

    def _decode(self, value: int) -> int:
        return value if self.cmos[REG_B] & B_BINARY else (value >> 4) * 10 + (value & 0xF)

    def _encode_hour(self, hour: int) -> int:
        if self.cmos[REG_B] & B_24H:
            return self._encode(hour)
        return self._encode((hour + 11) % 12 + 1) | (0x80 if hour >= 12 else 0)

    def _decode_hour(self, value: int) -> int:
        if self.cmos[REG_B] & B_24H:
            return self._decode(value)
        return self._decode(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    def _show_time(self) -> None:
        """Write the present time of day into the registers."""
        if self.cmos[REG_B] & B_SET:
            return
        now = gmtime(self.offset_s + self._now_ns() // NS_PER_S)
        shown = (now.tm_sec, now.tm_min, None, (now.tm_wday + 1) % 7 + 1, now.tm_mday, now.tm_mon, now.tm_year % 100,
                 now.tm_year // 100 % 100)  # fmt: skip
        for register, value in zip(_TIME_REGISTERS, shown, strict=True):
            self.cmos[register] = self._encode_hour(now.tm_hour) if value is None else self._encode(value)

    def _take_time(self) -> None:
        """Set the clock from the registers."""
        year = self._decode(self.cmos[CENTURY]) % 100 * 100 + self._decode(self.cmos[YEAR]) % 100
        month = min(max(self._decode(self.cmos[MONTH]), 1), 12)
        date = (max(year, 1), month, self._decode(self.cmos[DAY]))
        hour = self._decode_hour(self.cmos[HOURS])
        minute, second = self._decode(self.cmos[MINUTES]), self._decode(self.cmos[SECONDS])
        self.offset_s = timegm((*date, hour, minute, second)) - self._now_ns() // NS_PER_S

    # ---- events ----

    def _period_ticks(self) -> int | None:
        """Period in ticks of the crystal; None when off. Rates 1 and 2 are those of 8 and 9."""
        rate = self.cmos[REG_A] & 0xF
        if not rate or not self._runs():
            return None
        return 1 << (rate + 6 if rate < 3 else rate - 1)

    def _runs(self) -> bool:
        return self.cmos[REG_A] & 0x70 == _A_RUNNING

    def _next_period(self, after_ns: int) -> int | None:
        ticks = self._period_ticks()
        if ticks is None:
            return None
        number = after_ns * CRYSTAL_HZ // (ticks * NS_PER_S) + 1
        return -(-number * ticks * NS_PER_S // CRYSTAL_HZ)

    def _next_update(self, after_ns: int) -> int | None:
        if self.cmos[REG_B] & B_SET or not self._runs():
            return None
        return (after_ns // NS_PER_S + 1) * NS_PER_S

    def _next_alarm(self, after_ns: int) -> int | None:
        """The first update after `after_ns` whose time of day the alarm registers match."""
        if self.cmos[REG_B] & B_SET or not self._runs():
            return None
        wants = (self._alarm(HOURS_ALARM, 24), self._alarm(MINUTES_ALARM, 60), self._alarm(SECONDS_ALARM, 60))
        if _NEVER in wants:
            return None
        hour, minute, second = wants
        first = self.offset_s + after_ns // NS_PER_S + 1
        at = first
        while at < first + _DAY_S:
            if hour not in (_ANY, at // 3600 % 24):
                at += 3600 - at % 3600
            elif minute not in (_ANY, at // 60 % 60):
                at += 60 - at % 60
            elif second not in (_ANY, at % 60):
                at += 1
            else:
                return (at - self.offset_s) * NS_PER_S
        return None

    def _alarm(self, register: int, limit: int) -> int:
        """What an alarm register waits for."""
        raw = self.cmos[register]
        if raw & _ALARM_ANY == _ALARM_ANY:
            return _ANY
        value = self._decode_hour(raw) if register == HOURS_ALARM else self._decode(raw)
        return value if value < limit else _NEVER

    def _events(self) -> tuple[tuple[int, Callable[[int], int | None]], ...]:
        return (C_PERIODIC, self._next_period), (C_ALARM, self._next_alarm), (C_UPDATE, self._next_update)

    def due(self, now_ns: int) -> None:
        """Note what happened up to `now_ns` and drive the line."""
        if self.deadline_ns is not None and self.deadline_ns <= now_ns:
            self._note(now_ns)
            self._rearm()

    def _note(self, now_ns: int) -> None:
        """Set the flags of what came in (seen_ns, now_ns]."""
        for flag, following in self._events():
            when = None if self.flags & flag else following(self.seen_ns)
            if when is not None and when <= now_ns:
                self.flags |= flag
        self.seen_ns = now_ns

    @property
    def line(self) -> int:
        """Level of the interrupt line."""
        return int(bool(self.flags & self.cmos[REG_B] & _ENABLES))

    def _rearm(self) -> None:
        """Drive the line by the flags, and find when it rises by itself."""
        self._set_irq(self.line)
        self._find_deadline()
        self._on_change()

    def _find_deadline(self) -> None:
        enabled = 0 if self.line else self.cmos[REG_B] & _ENABLES
        armed = [following(self.seen_ns) for flag, following in self._events() if enabled & flag]
        self.deadline_ns = min((when for when in armed if when is not None), default=None)

    # ---- ports ----

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN from the data port; the index port cannot be read."""
        if port == INDEX_PORT:
            return 0xFF
        register = self.index
        if register in _TIME_REGISTERS:
            self._show_time()
        elif register == REG_A:
            return self.cmos[REG_A] | (A_UPDATING if self._updating() else 0)
        elif register == REG_C:
            return self._read_flags()
        elif register == REG_D:
            return D_VALID
        return self.cmos[register]

    def _updating(self) -> bool:
        stopped = self.cmos[REG_B] & B_SET or not self._runs()
        return not stopped and self._now_ns() % NS_PER_S >= NS_PER_S - UPDATE_NS

    def _read_flags(self) -> int:
        """Register C; reading clears it and lowers the line."""
        self._note(self._now_ns())
        value = self.flags | (C_REQUEST if self.line else 0)
        self.flags = 0
        self._rearm()
        return value

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT to the index (bit 7, the NMI mask, is not held) or the data port."""
        if port == INDEX_PORT:
            self.index = value & 0x7F
            return
        self._note(self._now_ns())
        register = self.index
        if register in _TIME_REGISTERS:
            self._show_time()
            self.cmos[register] = value
            if not self.cmos[REG_B] & B_SET:
                self._take_time()
        elif register == REG_A:
            self.cmos[REG_A] = value & ~A_UPDATING
        elif register == REG_B:
            self._write_b(value)
        elif register not in (REG_C, REG_D):
            self.cmos[register] = value
        self._rearm()

    def _write_b(self, value: int) -> None:
        """Stopping the clock freezes the bytes; starting it takes the time from them."""
        self._show_time()
        was_set = self.cmos[REG_B] & B_SET
        if value & B_SET:
            value &= ~B_UPDATE
        self.cmos[REG_B] = value
        if was_set and not value & B_SET:
            self._take_time()

    def snapshot(self) -> dict[str, Any]:
        """State: the bytes of CMOS, what is selected, flags, and the clock's place in time."""
        return {
            "cmos": bytes(self.cmos),
            "index": self.index,
            "flags": self.flags,
            "offset_s": self.offset_s,
            "seen_ns": self.seen_ns,
        }

    def load(self, fields: dict[str, Any]) -> None:
        """Take the state over. The line is not driven: who it goes to has its own state."""
        self.cmos[:] = fields["cmos"]
        self.index, self.flags = fields["index"], fields["flags"]
        self.offset_s, self.seen_ns = fields["offset_s"], fields["seen_ns"]
        self._find_deadline()
        self._on_change()
