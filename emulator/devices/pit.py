"""The 8254 interval timer in virtual time, in the fields of `struct kvm_pit_state2`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

PIT_HZ = 1193182
"""Input clock. Source: Linux include/linux/timex.h PIT_TICK_RATE."""
NS_PER_S = 1_000_000_000
CHANNEL_PORTS = (0x40, 0x41, 0x42)
CONTROL_PORT = 0x43
SPEAKER_PORT = 0x61

FLAG_SPEAKER_DATA_ON = 2
"""KVM_PIT_FLAGS_SPEAKER_DATA_ON: bit 1 of port 0x61."""
MODE_AT_RESET = 0xFF
"""No mode chosen yet. Source: Linux 6.12 arch/x86/kvm/i8254.c kvm_pit_reset_reinject/pit state reset."""
NOT_LOADED = -1
"""`count_load_time` of a counter that waits for its count after a control word. The value is ours: KVM lets the
old count run on, the chip stops. Source: Intel 8254 data sheet, "Control Word Format"."""

LSB, MSB, WORD_LOW, WORD_HIGH = 1, 2, 3, 4
_PERIODIC = (2, 3)
_ONE_SHOT = (0, 4)


@dataclass(slots=True)
class PitChannel:
    """One counter. Field names are those of `struct kvm_pit_channel_state`; `count_load_time` is virtual ns."""

    count: int = 0x10000
    latched_count: int = 0
    count_latched: int = 0
    status_latched: int = 0
    status: int = 0
    read_state: int = 0
    write_state: int = 0
    write_latch: int = 0
    rw_mode: int = 0
    mode: int = MODE_AT_RESET
    bcd: int = 0
    gate: int = 1
    count_load_time: int = 0

    def elapsed_ticks(self, now_ns: int) -> int:
        """Input clocks since the count was loaded."""
        if self.count_load_time == NOT_LOADED:
            return 0
        return (now_ns - self.count_load_time) * PIT_HZ // NS_PER_S

    def value(self, now_ns: int) -> int:
        """Counting element as read by the guest."""
        ticks = self.elapsed_ticks(now_ns)
        if self.mode == 3:
            value = self.count - 2 * ticks % self.count
        elif self.mode == 2:
            value = self.count - ticks % self.count
        else:
            value = self.count - ticks
        return _to_bcd(value % 10000) if self.bcd else value & 0xFFFF

    def out(self, now_ns: int) -> int:
        """Level of the OUT pin."""
        ticks = self.elapsed_ticks(now_ns)
        match self.mode:
            case 0:
                return int(ticks >= self.count)
            case 1:
                return int(ticks < self.count)
            case 2:
                return int(ticks % self.count != self.count - 1)
            case 3:
                return int(ticks % self.count < (self.count + 1) >> 1)
            case _:
                return int(ticks != self.count)

    def next_rise_ns(self, now_ns: int) -> int | None:
        """When OUT rises next, strictly after `now_ns`; None for never."""
        if self.count_load_time == NOT_LOADED:
            return None
        ticks = self.elapsed_ticks(now_ns)
        if self.mode in _PERIODIC:
            target = (ticks // self.count + 1) * self.count
        elif self.mode in _ONE_SHOT and ticks < self.count:
            target = self.count
        else:
            return None
        return self.count_load_time - (-target * NS_PER_S // PIT_HZ)


class Pit:
    """Three counters at ports 0x40-0x43 and the speaker port 0x61. Counter 0 drives IRQ 0, one pulse per rise.

    Counter 0's edges are a function of its fields and of virtual time, so no timer state exists beside the
    struct: `due` handles the edges up to now, and a restored timer goes on with the next one. A gate held low
    stops no counter (as in KVM); a rising gate restarts modes 1, 2, 3 and 5.

    `now_ns` tells virtual time; `on_change` is called when the next edge may have moved.

    Source: Intel 8254 data sheet; Linux 6.12 arch/x86/kvm/i8254.c.
    """

    def __init__(self, now_ns: Callable[[], int], fire: Callable[[], None], on_change: Callable[[], None]) -> None:
        self.channels = [PitChannel(), PitChannel(), PitChannel(gate=0)]
        self.flags = 0
        self.deadline_ns: int | None = None
        self._now_ns = now_ns
        self._fire = fire
        self._on_change = on_change

    def due(self, now_ns: int) -> None:
        """Deliver counter 0's edges up to `now_ns`; several at once are one request, as the line can show one."""
        if self.deadline_ns is not None and self.deadline_ns <= now_ns:
            self._fire()
            self.deadline_ns = self.channels[0].next_rise_ns(now_ns)

    def _load_count(self, index: int, value: int) -> None:
        channel = self.channels[index]
        count = _from_bcd(value) if channel.bcd else value
        channel.count = count or (10000 if channel.bcd else 0x10000)
        channel.count_load_time = self._now_ns()
        self._rearm(index)

    def _rearm(self, index: int) -> None:
        if index == 0:
            self.deadline_ns = self.channels[0].next_rise_ns(self._now_ns())
            self._on_change()

    def _control(self, value: int) -> None:
        index, access = value >> 6, value >> 4 & 3
        if index == 3:
            for n, channel in enumerate(self.channels):
                if value & 2 << n:
                    if not value & 0x20:
                        self._latch_count(channel)
                    if not value & 0x10:
                        self._latch_status(channel)
        elif access == 0:
            self._latch_count(self.channels[index])
        else:
            channel = self.channels[index]
            channel.rw_mode = channel.read_state = channel.write_state = access
            channel.mode = value >> 1 & 7
            if channel.mode > 5:
                channel.mode -= 4
            channel.bcd = value & 1
            channel.count_load_time = NOT_LOADED
            self._rearm(index)

    def _latch_count(self, channel: PitChannel) -> None:
        if not channel.count_latched:
            channel.latched_count = channel.value(self._now_ns())
            channel.count_latched = channel.rw_mode

    def _latch_status(self, channel: PitChannel) -> None:
        if not channel.status_latched:
            null_count = int(channel.count_load_time == NOT_LOADED)
            out = channel.out(self._now_ns())
            channel.status = out << 7 | null_count << 6 | channel.rw_mode << 4 | channel.mode << 1 & 0xE | channel.bcd
            channel.status_latched = 1

    def port_read(self, port: int, size: int) -> int:  # noqa: ARG002 - byte-wide device
        """IN from a counter, the (write-only) control word or the speaker port."""
        if port == SPEAKER_PORT:
            return self._read_speaker()
        if port == CONTROL_PORT:
            return 0xFF
        channel = self.channels[port - CHANNEL_PORTS[0]]
        if channel.status_latched:
            channel.status_latched = 0
            return channel.status
        if channel.count_latched:
            state, channel.count_latched = channel.count_latched, MSB if channel.count_latched == WORD_LOW else 0
            return channel.latched_count >> 8 if state == MSB else channel.latched_count & 0xFF
        value = channel.value(self._now_ns())
        state = channel.read_state
        if state in (WORD_LOW, WORD_HIGH):
            channel.read_state = WORD_HIGH if state == WORD_LOW else WORD_LOW
        return value >> 8 if state in (MSB, WORD_HIGH) else value & 0xFF

    def port_write(self, port: int, size: int, value: int) -> None:  # noqa: ARG002 - byte-wide device
        """OUT to a counter, the control word or the speaker port."""
        if port == SPEAKER_PORT:
            self._write_speaker(value)
        elif port == CONTROL_PORT:
            self._control(value)
        else:
            index = port - CHANNEL_PORTS[0]
            channel = self.channels[index]
            if channel.write_state == LSB:
                self._load_count(index, value)
            elif channel.write_state == MSB:
                self._load_count(index, value << 8)
            elif channel.write_state == WORD_LOW:
                channel.write_latch, channel.write_state = value, WORD_HIGH
            elif channel.write_state == WORD_HIGH:
                channel.write_state = WORD_LOW
                self._load_count(index, channel.write_latch | value << 8)

    def _read_speaker(self) -> int:
        now_ns = self._now_ns()
        channel = self.channels[2]
        refresh = now_ns // 15_085 & 1  # the refresh toggle, 66.3 kHz
        data = int(bool(self.flags & FLAG_SPEAKER_DATA_ON))
        return channel.out(now_ns) << 5 | refresh << 4 | data << 1 | channel.gate

    def _write_speaker(self, value: int) -> None:
        channel = self.channels[2]
        if value & 1 and not channel.gate and channel.mode in (1, 2, 3, 5):
            channel.count_load_time = self._now_ns()
        channel.gate = value & 1
        self.flags = self.flags & ~FLAG_SPEAKER_DATA_ON | (FLAG_SPEAKER_DATA_ON if value & 2 else 0)

    def snapshot(self) -> dict[str, Any]:
        """State in the fields of `struct kvm_pit_state2` (without `reserved`)."""
        return {"channels": [asdict(channel) for channel in self.channels], "flags": self.flags}

    def load(self, fields: dict[str, Any]) -> None:
        """Take the state over; edges up to the present virtual time count as delivered."""
        self.channels = [PitChannel(**channel) for channel in fields["channels"]]
        for channel in self.channels:
            channel.count = channel.count or 0x10000  # as a count of 0 written by the guest
        self.flags = fields["flags"]
        self.deadline_ns = self.channels[0].next_rise_ns(self._now_ns())
        self._on_change()


def _to_bcd(value: int) -> int:
    return int(str(value), 16)


def _from_bcd(value: int) -> int:
    return sum((value >> 4 * n & 0xF) * 10**n for n in range(4))
