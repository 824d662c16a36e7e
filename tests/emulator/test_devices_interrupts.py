"""The 8259 pair, the local APIC's priorities, the serial port, the debug exit and port routing."""

import pytest

from emulator.devices.debug_exit import DebugExit
from emulator.devices.lapic import EOI, ICR, ICR2, ID, LVT0, SPIV, TPR, Lapic
from emulator.devices.pic import Pic
from emulator.devices.ports import PortSpace
from emulator.devices.serial import CONSOLE_LIMIT_BYTES, Serial


def nothing():
    pass


@pytest.fixture
def pic():
    made = Pic(nothing)
    for port, value in [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0xA0, 0x11),
        (0xA1, 0x28),
        (0xA1, 2),
        (0xA1, 1),
    ]:
        made.port_write(port, 1, value)
    return made


def test_an_edge_gives_the_vector_and_eoi_lets_the_next_one_through(pic):
    pic.pulse_irq(0)
    assert pic.output
    assert pic.acknowledge() == 0x20
    pic.pulse_irq(0)
    assert not pic.output
    pic.port_write(0x20, 1, 0x20)
    assert pic.output


def test_a_masked_line_is_remembered(pic):
    pic.port_write(0x21, 1, 0xFF)
    pic.pulse_irq(0)
    assert not pic.output
    pic.port_write(0x21, 1, 0xFE)
    assert pic.acknowledge() == 0x20


def test_a_lower_line_waits_for_a_higher_one(pic):
    pic.set_irq(4, 1)
    assert pic.acknowledge() == 0x24
    pic.set_irq(1, 1)
    assert pic.acknowledge() == 0x21
    pic.set_irq(3, 1)
    assert not pic.output
    pic.port_write(0x20, 1, 0x20)
    assert pic.output  # 3 outranks 4, which is still in service


def test_the_slave_comes_through_the_cascade(pic):
    pic.set_irq(12, 1)
    assert pic.acknowledge() == 0x2C
    pic.set_irq(9, 1)
    assert not pic.output  # the master holds the cascade until its EOI
    pic.port_write(0x20, 1, 0x20)
    assert pic.acknowledge() == 0x29


def test_a_request_that_went_away_is_spurious(pic):
    assert pic.acknowledge() == 0x27


def test_level_triggered_lines_follow_their_level(pic):
    pic.port_write(0x4D0, 1, 0xFF)
    assert pic.port_read(0x4D0, 1) == 0xF8
    pic.set_irq(5, 1)
    assert pic.acknowledge() == 0x25
    pic.port_write(0x20, 1, 0x20)
    assert pic.output
    pic.set_irq(5, 0)
    assert not pic.output


def test_automatic_eoi_and_rotation(pic):
    for port, value in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 3), (0x20, 0x80)]:
        pic.port_write(port, 1, value)
    pic.pulse_irq(0)
    pic.pulse_irq(1)
    assert [pic.acknowledge(), pic.acknowledge()] == [0x20, 0x21]
    assert pic.master.priority_add == 2
    pic.pulse_irq(0)
    pic.pulse_irq(3)
    assert pic.acknowledge() == 0x23


def test_isr_irr_and_poll_can_be_read(pic):
    pic.pulse_irq(0)
    assert pic.port_read(0x20, 1) == 1
    pic.acknowledge()
    pic.port_write(0x20, 1, 0x0B)
    assert pic.port_read(0x20, 1) == 1
    pic.port_write(0x20, 1, 0x20)
    pic.pulse_irq(6)
    pic.port_write(0x20, 1, 0x0C)
    assert pic.port_read(0x20, 1) == 0x86
    assert pic.port_read(0x20, 1) == 0x40
    pic.port_write(0x20, 1, 0x0C)
    assert pic.port_read(0x20, 1) == 0


def test_rotation_and_specific_eoi_commands(pic):
    pic.port_write(0x20, 1, 0xC3)  # set priority: 3 lowest
    assert pic.master.priority_add == 4
    pic.pulse_irq(6)
    pic.acknowledge()
    pic.port_write(0x20, 1, 0xE6)  # rotate on specific EOI
    assert (pic.master.isr, pic.master.priority_add) == (0, 7)


def test_special_mask_mode_lets_lower_lines_through(pic):
    pic.pulse_irq(1)
    pic.acknowledge()
    pic.pulse_irq(4)
    assert not pic.output
    pic.port_write(0x20, 1, 0x68)
    pic.port_write(0x21, 1, 0x02)
    assert pic.output


def test_asking_whether_an_edge_would_interrupt_changes_nothing(pic):
    before = pic.snapshot()
    assert pic.edge_would_interrupt(0)
    pic.pulse_irq(0)
    pic.acknowledge()
    assert not pic.edge_would_interrupt(0)
    pic.port_write(0x20, 1, 0x20)
    assert pic.snapshot() == before


def test_a_pic_is_what_it_was_after_a_round_trip(pic):
    pic.set_irq(12, 1)
    pic.pulse_irq(3)
    pic.acknowledge()
    twin = Pic(nothing)
    twin.load(*pic.snapshot())
    assert twin.snapshot() == pic.snapshot()
    assert twin.output == pic.output


@pytest.fixture
def sent():
    return []


@pytest.fixture
def lapic(sent):
    made = Lapic(lambda: 0, *(lambda what=what: sent.append(what) for what in ("smi", "nmi", "init")), nothing)
    made.mmio_write(SPIV, 4, 0x1FF)
    return made


def test_the_highest_vector_goes_first_and_eoi_ends_it(lapic):
    assert lapic.accept(0x31)
    assert lapic.accept(0x55)
    assert lapic.pending() == 0x55
    lapic.acknowledge(0x55)
    assert lapic.pending() == -1
    lapic.mmio_write(EOI, 4, 0)
    assert lapic.pending() == 0x31


def test_the_task_priority_holds_interrupts_off(lapic):
    lapic.accept(0x55)
    lapic.mmio_write(TPR, 4, 0x50)
    assert lapic.pending() == -1
    lapic.set_tpr(0x40)
    assert lapic.pending() == 0x55


def test_a_disabled_apic_drops_fixed_interrupts_but_passes_the_8259(lapic):
    lapic.mmio_write(SPIV, 4, 0xFF)
    assert not lapic.accept(0x55)
    assert lapic.mmio_read(LVT0, 4) & 1 << 16
    assert not lapic.accepts_pic()
    lapic.set_hardware_enabled(False)
    assert lapic.accepts_pic()


@pytest.mark.parametrize(
    ("icr2", "icr", "result"),
    [
        (0, 0x44040, [0x40]),
        (0, 0x04041, [0x41]),
        (0xFF000000, 0x04042, [0x42]),
        (0x01000000, 0x04040, []),
        (0, 0xC4040, []),
        (0, 0x84043, [0x43]),
        (0, 0x04400, "nmi"),
        (0, 0x04200, "smi"),
        (0, 0x04500, "init"),
        (0, 0x00500, []),
        (0, 0x44004, []),
    ],
    ids=[
        "self",
        "own id",
        "broadcast",
        "other id",
        "all but self",
        "all",
        "nmi",
        "smi",
        "init",
        "INIT de-assert",
        "vector below 16",
    ],
)
def test_inter_processor_interrupts_reach_the_one_vcpu(lapic, sent, icr2, icr, result):
    lapic.mmio_write(ICR2, 4, icr2)
    lapic.mmio_write(ICR, 4, icr)
    if isinstance(result, str):
        assert sent == [result]
    else:
        assert [lapic.pending()] == (result or [-1])


def test_apic_registers_take_only_their_writable_bits(lapic):
    lapic.mmio_write(ID, 4, 0x12345678)
    assert lapic.mmio_read(ID, 4) == 0x12000000
    lapic.mmio_write(0x30, 4, 0)
    assert lapic.mmio_read(0x30, 4) == 0x50014
    lapic.mmio_write(TPR, 1, 0xFF)
    assert lapic.mmio_read(TPR, 4) == 0
    assert lapic.mmio_read(0x33, 1) == 0
    assert lapic.mmio_read(0x32, 1) == 5


@pytest.fixture
def lines():
    return []


@pytest.fixture
def serial(lines):
    return Serial(lines.append)


def test_output_is_numbered_from_the_first_byte_ever(serial):
    for byte in b"hello":
        serial.port_write(0x3F8, 1, byte)
    assert serial.read_console(0) == (0, b"hello")
    assert serial.read_console(3) == (3, b"lo")
    assert serial.read_console(99) == (5, b"")
    twin = Serial(lambda level: None)
    twin.load(serial.snapshot())
    twin.port_write(0x3F8, 1, ord("!"))
    assert twin.read_console(0) == (5, b"!")
    assert twin.tx_bytes == 6


def test_a_guest_that_prints_for_ever_fills_no_host(serial):
    serial.console = bytearray(CONSOLE_LIMIT_BYTES)
    serial.tx_bytes = CONSOLE_LIMIT_BYTES
    serial.port_write(0x3F8, 1, ord("x"))
    first, data = serial.read_console(0)
    assert first > 0
    assert len(data) <= CONSOLE_LIMIT_BYTES
    assert first + len(data) == serial.tx_bytes == CONSOLE_LIMIT_BYTES + 1


def test_the_divisor_hides_behind_dlab(serial):
    serial.port_write(0x3FB, 1, 0x80)
    serial.port_write(0x3F8, 1, 0x34)
    serial.port_write(0x3F9, 1, 0x12)
    assert (serial.port_read(0x3F8, 1), serial.port_read(0x3F9, 1)) == (0x34, 0x12)
    assert serial.divisor == 0x1234
    assert serial.tx_bytes == 0


def test_received_bytes_raise_the_line_until_they_are_read(serial, lines):
    serial.port_write(0x3FA, 1, 1)
    serial.port_write(0x3F9, 1, 1)
    assert serial.receive(b"ab") == 2
    assert lines[-1] == 1
    assert serial.port_read(0x3FA, 1) == 0xC4
    assert serial.port_read(0x3FD, 1) & 1
    assert (serial.port_read(0x3F8, 1), serial.port_read(0x3F8, 1)) == (0x61, 0x62)
    assert lines[-1] == 0
    assert serial.port_read(0x3FD, 1) == 0x60


def test_the_transmitter_interrupt_goes_when_iir_is_read(serial, lines):
    serial.port_write(0x3F9, 1, 2)
    assert lines[-1] == 1
    assert serial.port_read(0x3FA, 1) == 2
    assert lines[-1] == 0
    serial.port_write(0x3F8, 1, 0x41)
    assert lines[-1] == 1


def test_the_fifo_holds_sixteen_bytes_and_loopback_can_overrun_it(serial):
    serial.port_write(0x3FA, 1, 1)
    assert serial.receive(bytes(20)) == 16
    serial.port_write(0x3FC, 1, 0x1F)
    serial.port_write(0x3F8, 1, 0x41)
    assert serial.tx_bytes == 0
    assert serial.port_read(0x3FD, 1) & 2
    assert not serial.port_read(0x3FD, 1) & 2
    assert serial.port_read(0x3FE, 1) == 0xF0
    serial.port_write(0x3FA, 1, 3)
    assert serial.rx_len == 0


def test_a_serial_port_is_what_it_was_after_a_round_trip(serial):
    for port, value in [(0x3FA, 1), (0x3F9, 3), (0x3FF, 0x5A), (0x3FC, 3), (0x3FB, 3), (0x3F8, 0x41)]:
        serial.port_write(port, 1, value)
    serial.receive(b"xyz")
    twin = Serial(lambda level: None)
    twin.load(serial.snapshot())
    assert twin.snapshot() == serial.snapshot()
    assert twin.port_read(0x3F8, 1) == ord("x")
    with pytest.raises(ValueError, match="rx_len"):
        twin.load({**serial.snapshot(), "rx_len": 17})


def test_the_first_debug_exit_counts():
    told = []
    port = DebugExit(lambda: told.append(1))
    assert port.status is None
    port.port_write(0xF4, 4, 0x102)
    port.port_write(0xF4, 1, 9)
    assert (port.code, port.status, told) == (2, 5, [1])


class Register:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def port_read(self, port, size):
        self.log.append((self.name, port, size))
        return port & 0xFF

    def port_write(self, port, size, value):
        self.log.append((self.name, port, size, value))


def test_wide_accesses_to_byte_devices_are_split():
    log = []
    ports = PortSpace()
    ports.register(Register("a", log), 0x10, 0x11)
    ports.register(Register("w", log), 0x20, 0x20, wide=True)
    assert ports.read(0x10, 4) == 0xFFFF1110
    ports.write(0x11, 2, 0xAABB)
    ports.write(0x20, 4, 0x12345678)
    assert log == [("a", 0x10, 1), ("a", 0x11, 1), ("a", 0x11, 1, 0xBB), ("w", 0x20, 4, 0x12345678)]
    assert ports.read(0xFFFF, 2) == 0xFFFF
    with pytest.raises(ValueError, match="taken"):
        ports.register(Register("b", log), 0x11, 0x12)
