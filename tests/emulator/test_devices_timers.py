"""The 8254, the SMI timer and the local APIC's timer on a clock that the test holds."""

import pytest

from emulator.devices.lapic import IRR, LVTT, SPIV, TDCR, TMCCT, TMICT, Lapic
from emulator.devices.pit import NS_PER_S, PIT_HZ, Pit
from emulator.devices.smi_port import SmiPort


class Clock:
    def __init__(self):
        self.ns = 0
        self.log = []

    def now(self):
        return self.ns

    def note(self, what):
        return lambda: self.log.append((self.ns, what))


@pytest.fixture
def clock():
    return Clock()


def nothing():
    pass


def make_pit(clock):
    return Pit(clock.now, clock.note("irq0"), nothing)


def program(pit, channel, mode, count, access=3, bcd=0):
    pit.port_write(0x43, 1, channel << 6 | access << 4 | mode << 1 | bcd)
    if access & 1:
        pit.port_write(0x40 + channel, 1, count & 0xFF)
    if access & 2:
        pit.port_write(0x40 + channel, 1, count >> 8)


def edges(pit, clock, until_ns):
    """Run the clock to each deadline in turn; return when the interrupts came."""
    clock.log.clear()
    while pit.deadline_ns is not None and pit.deadline_ns <= until_ns:
        clock.ns = pit.deadline_ns
        pit.due(clock.ns)
    clock.ns = until_ns
    return [when for when, _ in clock.log]


@pytest.mark.parametrize("mode", [2, 3])
def test_a_periodic_counter_interrupts_every_period_without_drift(clock, mode):
    pit = make_pit(clock)
    clock.ns = 12_345
    program(pit, 0, mode, 11932)
    expected = [12_345 - (-n * 11932 * NS_PER_S // PIT_HZ) for n in range(1, 101)]
    assert edges(pit, clock, expected[-1]) == expected


def test_mode_0_interrupts_once(clock):
    pit = make_pit(clock)
    program(pit, 0, 0, 1193)
    assert edges(pit, clock, NS_PER_S) == [-(-1193 * NS_PER_S // PIT_HZ)]
    assert pit.deadline_ns is None


def test_a_count_of_zero_means_65536(clock):
    pit = make_pit(clock)
    program(pit, 0, 2, 0)
    assert pit.deadline_ns == -(-65536 * NS_PER_S // PIT_HZ)


def test_a_control_word_stops_the_counter_until_it_is_loaded(clock):
    pit = make_pit(clock)
    program(pit, 0, 2, 100)
    pit.port_write(0x43, 1, 0x34)
    assert pit.deadline_ns is None
    pit.port_write(0x43, 1, 0xE2)  # read back the status of counter 0
    assert pit.port_read(0x40, 1) & 0x40
    program(pit, 0, 2, 100)
    assert pit.deadline_ns is not None


def test_an_untouched_counter_never_interrupts(clock):
    assert make_pit(clock).deadline_ns is None


def ns_of(ticks):
    return -(-ticks * NS_PER_S // PIT_HZ)


@pytest.mark.parametrize(
    ("mode", "count", "ticks", "value", "out"),
    [
        (0, 1000, 1, 999, 0),
        (0, 1000, 1000, 0, 1),
        (2, 1000, 1, 999, 1),
        (2, 1000, 999, 1, 0),
        (2, 1000, 1000, 1000, 1),
        (3, 1000, 1, 998, 1),
        (3, 1000, 500, 1000, 0),
        (3, 1000, 999, 2, 0),
        (4, 1000, 1000, 0, 0),
    ],
)
def test_the_counter_reads_as_the_data_sheet_says(clock, mode, count, ticks, value, out):
    pit = make_pit(clock)
    program(pit, 2, mode, count)
    clock.ns = ns_of(ticks)
    pit.port_write(0x43, 1, 0x80)  # latch counter 2
    assert pit.port_read(0x42, 1) | pit.port_read(0x42, 1) << 8 == value
    assert pit.port_read(0x61, 1) >> 5 & 1 == out


def test_a_latched_count_stands_still_until_it_is_read(clock):
    pit = make_pit(clock)
    program(pit, 0, 2, 5000)
    clock.ns = ns_of(10)
    pit.port_write(0x43, 1, 0x00)
    clock.ns = ns_of(20)
    pit.port_write(0x43, 1, 0x00)
    assert pit.port_read(0x40, 1) | pit.port_read(0x40, 1) << 8 == 4990
    assert pit.port_read(0x40, 1) | pit.port_read(0x40, 1) << 8 == 4980


@pytest.mark.parametrize(("access", "count"), [(1, 0x0034), (2, 0x1200)])
def test_one_byte_access_leaves_the_other_byte_zero(clock, access, count):
    pit = make_pit(clock)
    program(pit, 0, 0, count, access=access)
    assert pit.channels[0].count == count


def test_bcd_counts_in_decimal(clock):
    pit = make_pit(clock)
    program(pit, 0, 2, 0x1234, bcd=1)
    assert pit.channels[0].count == 1234
    clock.ns = ns_of(5)
    pit.port_write(0x43, 1, 0x00)
    assert pit.port_read(0x40, 1) | pit.port_read(0x40, 1) << 8 == 0x1229


def test_raising_the_gate_restarts_the_counter_of_the_speaker(clock):
    pit = make_pit(clock)
    program(pit, 2, 3, 1000)
    clock.ns = ns_of(300)
    pit.port_write(0x61, 1, 3)
    assert pit.channels[2].count_load_time == clock.ns
    assert pit.snapshot()["flags"] == 2
    assert pit.port_read(0x61, 1) & 3 == 3


@pytest.mark.parametrize("mode", [0, 2, 3])
@pytest.mark.parametrize("at_ns", [0, 1, 999_999, 1_000_000, 7_654_321])
def test_a_restored_pit_interrupts_at_the_same_times(clock, mode, at_ns):
    pit = make_pit(clock)
    program(pit, 0, mode, 1193)
    edges(pit, clock, at_ns)
    twin_clock = Clock()
    twin_clock.ns = at_ns
    twin = make_pit(twin_clock)
    twin.load(pit.snapshot())
    assert twin.snapshot() == pit.snapshot()
    assert edges(twin, twin_clock, 50_000_000) == edges(pit, clock, 50_000_000)


def test_the_smi_timer_fires_once_at_its_deadline(clock):
    port = SmiPort(clock.now, clock.note("smi"), nothing)
    clock.ns = 5000
    port.port_write(0xB8, 4, 2000)
    port.due(6999)
    assert clock.log == []
    assert port.port_read(0xB8, 4) == 2000
    port.due(7000)
    port.due(9000)
    assert clock.log == [(5000, "smi")]
    assert port.port_read(0xB8, 4) == 0


def test_writing_zero_disarms_the_smi_timer(clock):
    port = SmiPort(clock.now, clock.note("smi"), nothing)
    port.port_write(0xB8, 4, 2000)
    port.port_write(0xB8, 4, 0)
    port.due(10_000)
    assert clock.log == []


def test_the_command_port_raises_an_smi_and_keeps_the_bytes(clock):
    port = SmiPort(clock.now, clock.note("smi"), nothing)
    port.port_write(0xB3, 1, 0x77)
    port.port_write(0xB2, 1, 0x5A)
    assert clock.log == [(0, "smi")]
    twin = SmiPort(clock.now, nothing, nothing)
    port.port_write(0xB8, 4, 123)
    twin.load(port.snapshot())
    assert twin.snapshot() == port.snapshot()
    assert (twin.port_read(0xB2, 1), twin.port_read(0xB3, 1), twin.deadline_ns) == (0x5A, 0x77, 123)


def make_lapic(clock):
    lapic = Lapic(clock.now, clock.note("smi"), clock.note("nmi"), nothing, nothing)
    lapic.mmio_write(SPIV, 4, 0x1FF)
    return lapic


def vectors(lapic):
    return [n for n in range(256) if lapic.regs[IRR + 0x10 * (n >> 5) + (n >> 3 & 3)] >> (n & 7) & 1]


@pytest.mark.parametrize(("code", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)])
def test_the_apic_timer_counts_through_its_divider(clock, code, divisor):
    lapic = make_lapic(clock)
    lapic.mmio_write(TDCR, 4, code)
    lapic.mmio_write(LVTT, 4, 0x55)
    lapic.mmio_write(TMICT, 4, 1000)
    clock.ns = 300 * divisor
    assert lapic.mmio_read(TMCCT, 4) == 700
    lapic.due(1000 * divisor - 1)
    assert vectors(lapic) == []
    lapic.due(1000 * divisor)
    assert vectors(lapic) == [0x55]
    assert lapic.deadline_ns is None


def test_a_periodic_apic_timer_goes_on_and_a_masked_one_is_silent(clock):
    lapic = make_lapic(clock)
    lapic.mmio_write(TDCR, 4, 0xB)
    lapic.mmio_write(LVTT, 4, 1 << 17 | 0x55)
    lapic.mmio_write(TMICT, 4, 1000)
    lapic.due(3500)
    assert lapic.deadline_ns == 4000
    assert vectors(lapic) == [0x55]
    lapic.acknowledge(0x55)
    lapic.mmio_write(LVTT, 4, 1 << 17 | 1 << 16 | 0x55)
    lapic.due(4000)
    assert vectors(lapic) == []


@pytest.mark.parametrize("at_ns", [1, 1000, 12_345, 127_990])
def test_a_restored_apic_timer_keeps_its_deadline_to_the_nanosecond(clock, at_ns):
    clock.ns = 777
    lapic = make_lapic(clock)
    lapic.mmio_write(TDCR, 4, 10)  # 128: the current count alone is far too coarse
    lapic.mmio_write(LVTT, 4, 0x55)
    lapic.mmio_write(TMICT, 4, 1000)
    clock.ns = 777 + at_ns
    twin = make_lapic(clock)
    twin.load(lapic.snapshot())
    assert twin.deadline_ns == lapic.deadline_ns
    assert twin.snapshot() == lapic.snapshot()
