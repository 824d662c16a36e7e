"""The real-time clock and CMOS: time of day, alarm, periodic and update interrupts, on a clock that the test holds."""

import pytest

from emulator.devices.rtc import NS_PER_S, Rtc

START = 1_000_000_000  # 2001-09-09 01:46:40 UTC, a Sunday
A, B, C, D = 0x0A, 0x0B, 0x0C, 0x0D


class World:
    def __init__(self, start=START):
        self.ns = 0
        self.line = 0
        self.rtc = Rtc(start, lambda: self.ns, self.drive, lambda: None)

    def drive(self, level):
        self.line = level

    def read(self, register):
        self.rtc.port_write(0x70, 1, register)
        return self.rtc.port_read(0x71, 1)

    def write(self, register, value):
        self.rtc.port_write(0x70, 1, register)
        self.rtc.port_write(0x71, 1, value)

    def at(self, seconds):
        self.ns = int(seconds * NS_PER_S)
        self.rtc.due(self.ns)

    def time(self):
        return [self.read(register) for register in (4, 2, 0, 6, 7, 8, 9, 0x32)]


@pytest.fixture
def world():
    return World()


def test_the_time_of_day_runs_on_virtual_time(world):
    assert world.time() == [0x01, 0x46, 0x40, 1, 0x09, 0x09, 0x01, 0x20]
    world.at(20)
    assert world.time()[:3] == [0x01, 0x47, 0x00]


@pytest.mark.parametrize(("mode", "hour"), [(0x02, 0x13), (0x00, 0x81), (0x06, 13), (0x04, 0x81)])
def test_binary_and_decimal_12_and_24_hours(mode, hour):
    world = World(START + 12 * 3600)
    world.write(B, mode)
    assert world.read(4) == hour


@pytest.mark.parametrize(
    ("mode", "raw", "hour"), [(0x80, 0x12, 0), (0x80, 0x92, 12), (0x84, 0x8B, 23), (0x82, 0x17, 17)]
)
def test_setting_the_clock(world, mode, raw, hour):
    world.write(B, mode)
    world.at(100)
    assert world.read(0) == 0x40  # it stands
    for register, value in ((4, raw), (2, 0), (0, 0), (7, 1), (8, 1), (9, 0x24 if not mode & 4 else 24)):
        world.write(register, value)
    world.write(0x32, 0x20 if not mode & 4 else 20)
    world.write(B, mode & 0x7F)
    world.write(B, 0x02)
    world.at(101)
    assert world.time()[:3] == [int(str(hour), 16), 0, 1]
    assert world.time()[4:] == [1, 1, 0x24, 0x20]


def test_garbage_in_the_clock_is_some_time(world):
    world.write(B, 0x82)
    for register in (0, 2, 4, 6, 7, 8, 9, 0x32):
        world.write(register, 0xFF)
    world.write(B, 0x02)
    assert all(0 <= value <= 0xFF for value in world.time())


def test_the_periodic_interrupt(world):
    world.write(A, 0x26)  # 1024 Hz
    world.write(B, 0x42)
    assert world.rtc.deadline_ns == 976_563
    world.at(0.0009)
    assert world.line == 0
    world.at(0.001)
    assert (world.line, world.rtc.deadline_ns) == (1, None)
    assert world.read(C) == 0xC0
    assert world.line == 0
    assert world.rtc.deadline_ns == 1_953_125
    assert world.read(C) == 0


@pytest.mark.parametrize(("rate", "hz"), [(3, 8192), (15, 2), (1, 256), (2, 128)])
def test_periodic_rates(world, rate, hz):
    world.write(A, 0x20 | rate)
    world.write(B, 0x42)
    assert world.rtc.deadline_ns == -(-NS_PER_S // hz)


@pytest.mark.parametrize("register_a", [0x20, 0x06, 0x76])
def test_no_rate_or_a_stopped_divider_gives_no_interrupt(world, register_a):
    world.write(A, register_a)
    world.write(B, 0x42)
    assert world.rtc.deadline_ns is None


def test_the_update_interrupt_and_its_flag(world):
    world.write(B, 0x12)
    assert world.rtc.deadline_ns == NS_PER_S
    world.at(1)
    assert world.line == 1
    assert world.read(C) & 0xB0 == 0x90


def test_flags_come_without_their_interrupts_and_enabling_raises_the_line(world):
    world.at(1.5)
    assert world.line == 0
    world.write(B, 0x12)
    assert world.line == 1
    assert world.read(C) & 0x90 == 0x90
    assert world.line == 0


@pytest.mark.parametrize(
    ("alarm", "after"),
    [
        ((0x01, 0x46, 0x50), 10),
        ((0x01, 0x46, 0x40), 86400),
        ((0xFF, 0xFF, 0xC0), 1),
        ((0xFF, 0xFF, 0x00), 20),
        ((0xFF, 0x00, 0x00), 800),
        ((0x00, 0x00, 0x00), 80000),
        ((0x02, 0xFF, 0x05), 805),
        ((0x01, 0x61, 0x00), None),
        ((0x24, 0xFF, 0xFF), None),
    ],
)
def test_the_alarm(world, alarm, after):
    for register, value in zip((5, 3, 1), alarm, strict=True):
        world.write(register, value)
    world.write(B, 0x22)
    assert world.rtc.deadline_ns == (None if after is None else after * NS_PER_S)
    if after is not None:
        world.at(after)
        assert world.line == 1
        assert world.read(C) & 0xA0 == 0xA0


def test_update_in_progress_shortly_before_the_second(world):
    assert world.read(A) & 0x80 == 0
    world.at(0.9998)
    assert world.read(A) & 0x80
    world.write(B, 0x82)
    assert world.read(A) & 0x80 == 0


def test_what_is_fixed(world):
    assert world.read(D) == 0x80
    world.write(C, 0xFF)
    world.write(D, 0)
    assert (world.read(D), world.rtc.port_read(0x70, 1)) == (0x80, 0xFF)
    world.write(0x80 | 0x40, 0x5A)  # bit 7 is the NMI mask
    assert world.read(0x40) == 0x5A


def test_memory_sizes_as_firmware_reads_them(world):
    world.rtc.describe_memory(128 << 20, 5 << 30)
    assert world.read(0x15) | world.read(0x16) << 8 == 640
    assert (world.read(0x34) | world.read(0x35) << 8) << 16 == 112 << 20
    assert world.read(0x30) | world.read(0x31) << 8 == 0xFFFF
    assert (world.read(0x5B) | world.read(0x5C) << 8 | world.read(0x5D) << 16) << 16 == 5 << 30
    assert world.read(0x2E) << 8 | world.read(0x2F) == sum(world.read(n) for n in range(0x10, 0x2E)) & 0xFFFF


def test_a_clock_goes_on_after_a_round_trip(world):
    world.write(B, 0x52)
    world.at(3.2)
    world.read(C)
    twin = World(0)
    twin.ns = world.ns
    twin.rtc.load(world.rtc.snapshot())
    assert twin.rtc.snapshot() == world.rtc.snapshot()
    assert twin.rtc.deadline_ns == world.rtc.deadline_ns is not None
    for each in (world, twin):
        each.at(4.1)
    assert twin.line == world.line == 1
    assert twin.read(C) == world.read(C) == 0xD0
    assert twin.time() == world.time()
