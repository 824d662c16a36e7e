"""Devices of the PC board one by one: ACPI timer, PCI configuration, fw_cfg, keyboard controller, debug ports."""

import pytest

from emulator.devices.acpi_pm import PM_TIMER_HZ, AcpiPm
from emulator.devices.debug_ports import CONSOLE_LIMIT_BYTES, DebugConsole, PostPort
from emulator.devices.fw_cfg import FwCfg, e820_file
from emulator.devices.keyboard_controller import KeyboardController
from emulator.devices.pci import HOST_BRIDGE, ISA_BRIDGE, KINDS, POWER_MANAGEMENT, PciBus, PciFunction
from emulator.devices.ports import PortSpace

NS_PER_S = 1_000_000_000
BASE = 0x600
STATUS, ENABLE, CONTROL, TIMER, GLOBAL = BASE, BASE + 2, BASE + 4, BASE + 8, BASE + 0x28


class Power:
    def __init__(self):
        self.ns = 0
        self.line = 0
        self.pm = AcpiPm(lambda: self.ns, self.drive, lambda: None)
        self.pm.base = BASE

    def drive(self, level):
        self.line = level

    def at(self, ns):
        self.ns = ns
        self.pm.due(ns)


@pytest.fixture
def power():
    return Power()


HALF_NS = -(-(1 << 23) * NS_PER_S // PM_TIMER_HZ)


def test_the_acpi_timer_counts_24_bits(power):
    power.ns = NS_PER_S
    assert power.pm.port_read(TIMER, 4) == 3579545
    assert power.pm.port_read(TIMER + 1, 1) == 3579545 >> 8 & 0xFF
    power.ns = 5 * NS_PER_S
    assert power.pm.port_read(TIMER, 4) == 5 * 3579545 & 0xFFFFFF
    power.pm.port_write(TIMER, 4, 0)
    assert power.pm.port_read(TIMER, 4) == 5 * 3579545 & 0xFFFFFF


def test_the_timer_raises_the_sci_in_acpi_mode(power):
    power.pm.port_write(ENABLE, 2, 1)
    assert power.pm.deadline_ns is None
    power.pm.set_acpi_mode(True)
    assert (power.pm.deadline_ns, power.pm.port_read(CONTROL, 2)) == (HALF_NS, 1)
    power.at(HALF_NS - 1)
    assert power.line == 0
    power.at(HALF_NS)
    assert (power.line, power.pm.port_read(STATUS, 2), power.pm.deadline_ns) == (1, 1, None)
    power.pm.port_write(STATUS, 2, 1)
    assert (power.line, power.pm.port_read(STATUS, 2)) == (0, 0)
    assert HALF_NS < power.pm.deadline_ns <= 2 * HALF_NS
    power.pm.set_acpi_mode(False)
    assert power.pm.deadline_ns is None


def test_registers_by_bytes_and_in_pairs(power):
    power.pm.port_write(STATUS, 4, 0x0521 << 16)
    assert power.pm.port_read(STATUS, 4) == 0x0521 << 16
    power.pm.port_write(ENABLE + 1, 1, 0)
    assert power.pm.port_read(ENABLE, 2) == 0x21
    power.pm.port_write(CONTROL, 2, 0xFFFF)
    assert power.pm.port_read(CONTROL, 2) == 0x1C07
    power.pm.port_write(GLOBAL, 4, 0xFFFFFFFF)
    assert power.pm.smi_enabled
    assert (power.pm.port_read(GLOBAL, 4), power.pm.port_read(BASE + 0x3F, 1)) == (0xFFFFFFFF, 0)


def test_clearing_one_byte_of_the_status_leaves_the_other(power):
    power.ns = HALF_NS
    assert power.pm.port_read(STATUS, 2) == 1
    power.pm.port_write(STATUS + 1, 1, 0xFF)
    assert power.pm.port_read(STATUS, 2) == 1


def test_power_management_after_a_round_trip(power):
    power.pm.port_write(ENABLE, 2, 1)
    power.pm.set_acpi_mode(True)
    power.at(3 * HALF_NS // 2)
    power.pm.port_write(STATUS, 2, 1)
    twin = Power()
    twin.pm.load(power.pm.snapshot())
    assert twin.pm.snapshot() == power.pm.snapshot()
    assert twin.pm.deadline_ns == power.pm.deadline_ns is not None


# ---- PCI ----


@pytest.fixture
def told():
    return []


@pytest.fixture
def pci(told):
    return PciBus({number: PciFunction(kind, lambda n=number: told.append(n)) for number, kind in KINDS.items()})


def reach(pci, function, register):
    pci.port_write(0xCF8, 4, 1 << 31 | function << 8 | register)


@pytest.mark.parametrize(
    ("function", "identity", "kind"),
    [(HOST_BRIDGE, 0x12378086, 0x060000), (ISA_BRIDGE, 0x70008086, 0x060100), (POWER_MANAGEMENT, 0x71138086, 0x068000)],
)
def test_functions_are_found(pci, function, identity, kind):
    reach(pci, function, 0)
    assert pci.port_read(0xCFC, 4) == identity
    reach(pci, function, 8)
    assert pci.port_read(0xCFC, 4) >> 8 == kind
    assert pci.port_read(0xCFF, 1) == 0x06
    reach(pci, function, 0x2C)
    assert pci.port_read(0xCFC, 4) == 0x11001AF4


def test_absent_functions_and_other_buses_read_all_ones(pci, told):
    for address in (1 << 31 | 5 << 11, 1 << 31 | 1 << 16, 0, 1 << 31 | 1 << 8):
        pci.port_write(0xCF8, 4, address)
        assert pci.port_read(0xCFC, 2) == 0xFFFF
        pci.port_write(0xCFC, 4, 0)
    assert told == []


def test_the_address_is_only_taken_whole(pci):
    reach(pci, ISA_BRIDGE, 0x0C)
    pci.port_write(0xCF9, 1, 6)
    pci.port_write(0xCF8, 2, 0)
    assert pci.port_read(0xCF8, 4) == 1 << 31 | ISA_BRIDGE << 8 | 0x0C
    assert pci.port_read(0xCF8, 1) == 0xFF


def test_identity_is_read_only_and_pam_takes_its_bits(pci, told):
    for register in (0, 8, 0x2C):
        reach(pci, HOST_BRIDGE, register)
        before = pci.port_read(0xCFC, 4)
        pci.port_write(0xCFC, 4, 0)
        assert pci.port_read(0xCFC, 4) == before
    reach(pci, HOST_BRIDGE, 0x58)
    pci.port_write(0xCFC, 4, 0xFFFFFFFF)
    assert pci.port_read(0xCFD, 1) == 0x30
    assert pci.port_read(0xCFE, 2) == 0x3333
    assert told[-1] == HOST_BRIDGE


def test_a_locked_smram_register_is_closed_and_stays(pci):
    reach(pci, HOST_BRIDGE, 0x70)
    pci.port_write(0xCFE, 1, 0x4A)
    assert pci.port_read(0xCFE, 1) == 0x4A
    pci.port_write(0xCFE, 1, 0x5A)
    assert pci.port_read(0xCFE, 1) == 0x1A
    pci.port_write(0xCFE, 1, 0x4A)
    assert pci.port_read(0xCFE, 1) == 0x1A


def test_configuration_after_a_round_trip(pci, told):
    reach(pci, POWER_MANAGEMENT, 0x40)
    pci.port_write(0xCFC, 4, 0xB001)
    state = pci.snapshot()
    twin = PciBus({number: PciFunction(kind, lambda n=number: told.append(n)) for number, kind in KINDS.items()})
    told.clear()
    twin.load(state)
    assert twin.snapshot() == state
    assert twin.port_read(0xCFC, 4) == 0xB001
    assert sorted(told) == sorted(KINDS)


# ---- fw_cfg ----


def item(fw_cfg, number, size):
    fw_cfg.port_write(0x510, 2, number)
    return bytes(fw_cfg.port_read(0x511, 1) for _ in range(size))


def test_fw_cfg_items_and_files():
    device = FwCfg(5 << 30, 1, {"etc/e820": e820_file(((0, 3 << 30), (4 << 30, 2 << 30))), "a": b"xyz"})
    assert item(device, 0, 6) == b"QEMU\0\0"
    assert item(device, 1, 4) == b"\1\0\0\0"
    assert int.from_bytes(item(device, 3, 8), "little") == 5 << 30
    assert item(device, 5, 2) == item(device, 0xF, 2) == b"\1\0"
    directory = item(device, 0x19, 4 + 2 * 64)
    assert directory[:4] == b"\0\0\0\2"
    files = [directory[n : n + 64] for n in (4, 68)]
    names = {entry[8:].rstrip(b"\0"): (int.from_bytes(entry[:4], "big"), entry[5]) for entry in files}
    assert names == {b"a": (3, 0x20), b"etc/e820": (40, 0x21)}
    assert item(device, 0x20, 4) == b"xyz\0"
    assert (
        item(device, 0x21, 40)[20:] == (4 << 30).to_bytes(8, "little") + (2 << 30).to_bytes(8, "little") + b"\1\0\0\0"
    )
    assert item(device, 0x7777, 2) == b"\0\0"


def test_fw_cfg_goes_on_in_the_middle_of_an_item():
    device = FwCfg(1 << 20, 1, {})
    item(device, 0, 2)
    twin = FwCfg(1 << 20, 1, {})
    twin.load(device.snapshot())
    assert bytes([twin.port_read(0x511, 1), twin.port_read(0x511, 1)]) == b"MU"
    twin.port_write(0x510, 1, 5)  # selectors are two bytes
    assert twin.port_read(0x510, 2) == twin.port_read(0x511, 1) == 0
    assert twin.snapshot() == {"selected": 0, "position": 5}


# ---- keyboard controller ----


class Keys:
    def __init__(self):
        self.gate = []
        self.resets = 0
        self.device = KeyboardController(self.gate.append, self.reset)

    def reset(self):
        self.resets += 1

    def command(self, *values):
        for port, value in zip((0x64, 0x60), values, strict=False):
            self.device.port_write(port, 1, value)

    def answer(self):
        assert self.device.port_read(0x64, 1) & 1
        value = self.device.port_read(0x60, 1)
        assert not self.device.port_read(0x64, 1) & 1
        return value


@pytest.fixture
def keys():
    return Keys()


def test_the_controller_passes_its_test_and_finds_nothing(keys):
    assert keys.device.port_read(0x64, 1) == 0x10
    for command, answer in ((0xAA, 0x55), (0xAB, 1), (0xA9, 1), (0xC0, 0x80)):
        keys.command(command)
        assert keys.answer() == answer
    assert keys.device.port_read(0x64, 1) & 4


def test_the_mode_byte(keys):
    keys.command(0x60, 0x65)
    assert keys.device.port_read(0x64, 1) & 8 == 0
    keys.command(0x20)
    assert keys.answer() == 0x65
    keys.command(0x60)
    assert keys.device.port_read(0x64, 1) & 8


@pytest.mark.parametrize(
    ("close", "open_"),
    [
        (lambda keys: keys.command(0xD1, 0x01), lambda keys: keys.command(0xD1, 0x03)),
        (lambda keys: keys.command(0xDD), lambda keys: keys.command(0xDF)),
        (lambda keys: keys.device.port_write(0x92, 1, 0), lambda keys: keys.device.port_write(0x92, 1, 2)),
    ],
    ids=["output port", "commands", "port 92h"],
)
def test_three_ways_to_the_a20_gate(keys, close, open_):
    assert keys.device.port_read(0x92, 1) == 2
    close(keys)
    assert (keys.gate, keys.device.port_read(0x92, 1)) == ([False], 0)
    keys.command(0xD0)
    assert keys.answer() == 1
    close(keys)
    open_(keys)
    assert keys.gate == [False, True]
    assert keys.resets == 0


def test_three_ways_to_reset_the_cpu(keys):
    keys.command(0xD1, 0x02)
    keys.command(0xFE)
    keys.device.port_write(0x92, 1, 3)
    keys.command(0xFF)  # pulses nothing
    assert keys.resets == 3


def test_a_controller_after_a_round_trip(keys):
    keys.device.port_write(0x92, 1, 0)
    keys.command(0xAA)
    keys.command(0x60)
    twin = Keys()
    twin.device.load(keys.device.snapshot())
    assert twin.gate == [False]
    assert twin.device.snapshot() == keys.device.snapshot()
    twin.device.port_write(0x60, 1, 0x47)
    assert twin.device.mode == 0x47


# ---- debug ports ----


def test_the_debug_console_keeps_the_end_of_what_was_written():
    console = DebugConsole()
    assert console.port_read(0x402, 1) == 0xE9
    for byte in b"hello":
        console.port_write(0xE9, 1, byte)
    assert console.read(0) == (0, b"hello")
    assert console.read(3) == (3, b"lo")
    for _ in range(CONSOLE_LIMIT_BYTES):
        console.port_write(0x402, 1, 0x2E)
    first, held = console.read(0)
    assert first + len(held) == console.written == CONSOLE_LIMIT_BYTES + 5
    assert 0 < len(held) <= CONSOLE_LIMIT_BYTES
    twin = DebugConsole()
    twin.load(console.snapshot())
    assert twin.read(0) == (console.written, b"")


def test_post_codes_are_heard_and_the_last_is_held():
    port, heard = PostPort(), []
    port.on_code = heard.append
    port.port_write(0x80, 1, 0x12)
    port.port_write(0x80, 1, 0x34)
    assert (heard, port.port_read(0x80, 1)) == ([0x12, 0x34], 0x34)
    twin = PostPort()
    twin.load(port.snapshot())
    assert twin.code == 0x34


# ---- ports that move ----


def test_a_device_that_moves_takes_only_free_ports():
    ports, fixed, moving = PortSpace(), PostPort(), PostPort()
    ports.register(fixed, 0x82, 0x82)
    fixed.code, moving.code = 1, 2
    ports.claim(moving, 0x80, 0x83)
    assert [ports.read(port, 1) for port in range(0x7F, 0x85)] == [0xFF, 2, 2, 1, 2, 0xFF]
    ports.release(moving)
    assert [ports.read(port, 1) for port in range(0x80, 0x84)] == [0xFF, 0xFF, 1, 0xFF]
