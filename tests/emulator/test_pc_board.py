"""The PC board as a whole: the memory map that its chipset makes, interrupts through both controllers, SMIs, state."""

import pytest

from emulator.bridge import load_sections, save_sections, save_state
from emulator.config import GIB, MIB, Board, ImageConfig, MachineConfig, StartConfig, ram_slots
from emulator.devices.lapic import SPIV
from emulator.loaders import load_bios, machine_config
from emulator.machine import Machine, StopReason
from emulator.memory import GuestMemory, Window
from schemas.errors import SchemaError

RAM = 4 * MIB
ROM_BYTES = 0x40000
ROM = bytes(n >> 12 & 0xFF for n in range(ROM_BYTES))  # every page has its number
HOST, ISA, POWER = 0x80000000, 0x80000800, 0x80000B00
PAM, SMRAM = 0x59, 0x72


def outb(port, value):
    """mov dx,port; mov al,value; out dx,al"""
    return f"ba{port.to_bytes(2, 'little').hex()}b0{value:02x}ee"


def machine_of(code="", **options):
    images = (ImageConfig(0, 0x1000, bytes.fromhex(code)),)
    start = StartConfig(0, 0, 0x1000)
    return Machine(
        MachineConfig(ram_bytes=RAM, slots=ram_slots(RAM), start=start, images=images, board=Board.PC, **options)
    )


@pytest.fixture
def machine():
    return machine_of()


@pytest.fixture
def bios():
    return Machine(machine_config(load_bios(ROM), RAM, board=Board.PC))


def configure(machine, function, register, size, value):
    machine.ports.write(0xCF8, 4, function | register & 0xFC)
    machine.ports.write(0xCFC + (register & 3), size, value)


# ---- memory ----


def test_below_1_mib_there_is_the_end_of_the_rom_and_nothing_else(bios):
    memory = bios.memory
    assert memory.read(0, 0xFFFFF000, 1) == memory.read(0, 0xFF000, 1) == 0x3F
    assert memory.read(0, 0xE0000, 1) == 0x20
    assert [memory.read(0, gpa, 1) for gpa in (0xDFFFF, 0xC0000, 0xA0000)] == [0xFF] * 3
    memory.write(0, 0xF0000, 1, 0x77)
    assert memory.read(0, 0xF0000, 1) == 0x30


@pytest.mark.parametrize("as_id", [0, 1])
@pytest.mark.parametrize(
    ("attributes", "before", "after"), [(0, 0x30, 0x30), (1, 0x11, 0x11), (2, 0x30, 0x30), (3, 0x11, 0x77)]
)
def test_pam_sends_reads_and_writes_to_ram_or_rom(bios, as_id, attributes, before, after):
    memory = bios.memory
    memory.ram[0xF0000] = 0x11
    configure(bios, HOST, PAM, 1, attributes << 4)
    assert memory.read(as_id, 0xF0000, 1) == before
    memory.write(as_id, 0xF0000, 1, 0x77)
    assert memory.read(as_id, 0xF0000, 1) == after
    assert memory.ram[0xF0000] == (0x77 if attributes & 2 else 0x11)
    assert memory.dirty[0xF0] == (attributes & 2) // 2


def test_every_pam_register_has_its_segments(bios):
    bios.memory.ram[0xC0000:0x100000] = b"\x55" * 0x40000
    for register in range(PAM + 1, PAM + 7):
        for nibble in (0x01, 0x10):
            configure(bios, HOST, register, 1, nibble)
            start = 0xC0000 + 0x8000 * (register - PAM - 1) + (0x4000 if nibble == 0x10 else 0)
            shown = [gpa for gpa in range(0xC0000, 0xF0000, 0x1000) if bios.memory.read(0, gpa, 1) == 0x55]
            assert shown == list(range(start, start + 0x4000, 0x1000))
        configure(bios, HOST, register, 1, 0)


@pytest.mark.parametrize(
    ("smram", "outside", "inside"),
    [(0x02, 0xFF, 0xFF), (0x0A, 0xFF, 0x5A), (0x4A, 0x5A, 0x5A), (0x42, 0x5A, 0x5A), (0x5A, 0xFF, 0x5A)],
    ids=["off", "closed", "open", "open but not enabled", "open and locked at once"],
)
def test_smram_is_seen_inside_smm_or_while_it_is_open(machine, smram, outside, inside):
    machine.memory.ram[0xA0000] = 0x5A
    configure(machine, HOST, SMRAM, 1, smram)
    assert (machine.memory.read(0, 0xA0000, 1), machine.memory.read(1, 0xA0000, 1)) == (outside, inside)


def test_a_locked_smram_stays_closed(machine):
    machine.memory.ram[0xA0000] = 0x5A
    configure(machine, HOST, SMRAM, 1, 0x1A)
    configure(machine, HOST, SMRAM, 1, 0x4A)
    assert (machine.memory.read(0, 0xA0000, 1), machine.memory.read(1, 0xA0000, 1)) == (0xFF, 0x5A)


def test_without_a_rom_the_shadow_is_ram_from_the_start(machine):
    machine.memory.write(0, 0xF0000, 4, 0x12345678)
    assert machine.memory.read(1, 0xF0000, 4) == 0x12345678


def test_code_that_is_mapped_away_is_not_run_again():
    """A caller at 0x1000 runs C000:0000 (inc ax; retf), hides it behind PAM, and runs what is there then: all ones."""
    call = "9a000000c0"
    hide = "66ba" + "f80c0000" + "66b8" + "58000080" + "66ef" + "ba" + "fe0c" + "b000ee"
    machine = machine_of(call + hide + call)
    machine.memory.write(0, 0xC0000, 2, 0xCB40)
    machine.run(3)
    assert (machine.cpu.state.gpr[0], machine.cpu.state.rip) == (1, 0x1005)
    machine.run(7)
    assert machine.cpu.state.segs[1].base == 0xC0000
    machine.run(1)
    assert machine.cpu.state.exception_nr == 6  # FF FF


@pytest.mark.parametrize("method", [lambda m, on: m.ports.write(0x92, 1, 2 * on), lambda m, on: (
    m.ports.write(0x64, 1, 0xD1), m.ports.write(0x60, 1, 1 | 2 * on))], ids=["port 92h", "8042"])  # fmt: skip
def test_with_the_a20_gate_closed_odd_mebibytes_are_even_ones(machine, method):
    memory = machine.memory
    memory.write(0, 0x100, 1, 0x11)
    memory.write(0, MIB + 0x100, 1, 0x22)
    method(machine, False)
    assert [memory.read(0, gpa, 1) for gpa in (0x100, MIB + 0x100)] == [0x11, 0x11]
    memory.write(0, 3 * MIB, 1, 0x33)
    assert memory.ram[2 * MIB] == 0x33
    assert memory.page_offset(0, MIB) == memory.writable_page_offset(0, MIB) == 0
    method(machine, True)
    assert memory.read(0, MIB + 0x100, 1) == 0x22


def test_a_guest_sees_the_gate_at_once():
    """mov al,[fs:0x10] with FS=0xFFFF reads 0x100000; port 0x92 between two reads."""
    machine = machine_of("b8ffff8ee064a01000" + "88c3" + "30c0e692" + "64a01000")
    machine.memory.write(0, 0, 1, 0xAA)
    machine.memory.write(0, MIB, 1, 0xBB)
    machine.run(7)
    assert machine.cpu.state.gpr[3] & 0xFF == 0xBB
    assert machine.cpu.state.gpr[0] & 0xFF == 0xAA


def test_windows_lie_over_slots_in_one_address_space():
    memory = GuestMemory(ram_slots(MIB), bytearray(MIB))
    memory.ram[0x5000] = 0x55
    before = memory.generation
    memory.set_windows([Window(0, 0x2000, 0x4000, 0x5000, -1), Window(0, 2 * MIB, 2 * MIB + 0x1000, -1, 0x9000)])
    assert memory.generation > before
    assert [memory.read(0, gpa, 1) for gpa in (0x1000, 0x2000, 0x4000)] == [0, 0x55, 0]
    assert (memory.page_offset(0, 0x3000), memory.writable_page_offset(0, 0x3000)) == (0x6000, -1)
    assert memory.page_offset(1, 0x3000) == 0x3000
    memory.write(0, 2 * MIB + 1, 1, 0x99)
    assert (memory.ram[0x9001], memory.read(0, 2 * MIB + 1, 1), memory.page_offset(0, 2 * MIB)) == (0x99, 0xFF, -1)
    memory.set_windows([])
    assert memory.read(0, 0x2000, 1) == 0


def test_firmware_is_told_of_memory_below_and_above_4_gib(bios):
    bios.ports.write(0x510, 2, 3)
    assert int.from_bytes(bytes(bios.ports.read(0x511, 1) for _ in range(8)), "little") == RAM
    large = MachineConfig(ram_bytes=RAM, slots=ram_slots(RAM), board=Board.PC)
    high = large.slots[0]._replace(slot=9, gpa=4 * GIB)
    with_high = Machine(MachineConfig(ram_bytes=RAM, slots=(*large.slots, high), board=Board.PC))
    with_high.ports.write(0x70, 1, 0x5B)
    assert with_high.ports.read(0x71, 1) == RAM >> 16


# ---- power management ports and SMIs ----


def test_power_management_is_where_configuration_puts_it(machine):
    assert machine.ports.read(0x608, 4) == 0xFFFFFFFF
    configure(machine, POWER, 0x40, 4, 0x601)
    assert machine.ports.read(0x608, 4) == 0xFFFFFFFF
    configure(machine, POWER, 0x80, 1, 1)
    machine.set_clock(1_000_000_000, 0)
    assert machine.ports.read(0x608, 4) == 3579545
    configure(machine, POWER, 0x40, 4, 0xB001)
    assert (machine.ports.read(0x608, 4), machine.ports.read(0xB008, 4)) == (0xFFFFFFFF, 3579545)


@pytest.mark.parametrize(("apmc", "global_", "raised"), [(0, 1, False), (1, 0, False), (1, 1, True)])
def test_the_apm_port_raises_an_smi_where_the_chipset_lets_it(machine, apmc, global_, raised):
    configure(machine, POWER, 0x40, 4, 0x601)
    configure(machine, POWER, 0x80, 1, 1)
    configure(machine, POWER, 0x58, 4, apmc << 25)
    machine.ports.write(0x628, 4, global_)
    machine.ports.write(0xB3, 1, 0x44)
    machine.ports.write(0xB2, 1, 0x12)
    assert machine.cpu.state.smi_pending == raised
    assert (machine.ports.read(0xB2, 1), machine.ports.read(0xB3, 1)) == (0x12, 0x44)


def test_the_apm_port_switches_acpi_mode(machine):
    configure(machine, POWER, 0x40, 4, 0x601)
    configure(machine, POWER, 0x80, 1, 1)
    for command, enabled in ((0xF1, 1), (0x12, 1), (0xF0, 0)):
        machine.ports.write(0xB2, 1, command)
        assert machine.ports.read(0x604, 2) == enabled


def test_the_smi_timer_is_not_on_a_pc(machine):
    assert machine.ports.read(0xB8, 4) == 0xFFFFFFFF
    assert Machine(MachineConfig(ram_bytes=MIB, slots=ram_slots(MIB))).ports.read(0xB8, 4) == 0


def test_the_minimal_board_has_none_of_it():
    plain = Machine(MachineConfig(ram_bytes=MIB, slots=ram_slots(MIB)))
    ports = (0x60, 0x64, 0x70, 0x71, 0x80, 0x92, 0xE9, 0x402, 0x510, 0x511, 0xCF8, 0xCFC)
    assert [plain.ports.read(port, 1) for port in ports] == [0xFF] * len(ports)
    assert plain.memory.read(0, 0xFEC00000, 4) == 0xFFFFFFFF
    plain.smi_port.port_write(0xB2, 1, 0)
    assert plain.cpu.state.smi_pending


def test_the_post_port_is_where_it_was_asked_for():
    machine, heard = machine_of(outb(0x190, 0x42), post_port=0x190), []
    machine.pc.post.on_code = heard.append
    machine.run(3)
    assert (heard, machine.ports.read(0x80, 1)) == ([0x42], 0xFF)


# ---- interrupts ----

HALT = "fbf4"  # sti; hlt
HANDLER = 0x2000


def with_handlers(machine):
    """Every vector's handler is a HLT with interrupts off."""
    for vector in range(256):
        machine.memory.write(0, 4 * vector, 4, HANDLER + vector)
        machine.memory.write(0, HANDLER + vector, 1, 0xF4)
    return machine


def handler(machine):
    assert machine.run(100).reason == StopReason.HALTED
    return machine.cpu.state.rip - 1 - HANDLER


def route(machine, pin, low):
    machine.lapic.mmio_write(SPIV, 4, 0x1FF)
    for register, value in ((0x11 + 2 * pin, 0), (0x10 + 2 * pin, low)):
        machine.memory.write(0, 0xFEC00000, 4, register)
        machine.memory.write(0, 0xFEC00010, 4, value)


def start_pit(machine, count=1000):
    machine.ports.write(0x43, 1, 0x34)
    machine.ports.write(0x40, 1, count & 0xFF)
    machine.ports.write(0x40, 1, count >> 8)


def mask_pics(machine):
    machine.ports.write(0x21, 1, 0xFF)
    machine.ports.write(0xA1, 1, 0xFF)


def test_the_timer_wakes_through_pin_2():
    machine = with_handlers(machine_of(HALT))
    mask_pics(machine)
    route(machine, 2, 0x71)
    start_pit(machine)
    assert handler(machine) == 0x71
    assert machine.now_ns == pytest.approx(838_000, abs=3000)


def test_the_clock_wakes_through_the_slave_pic():
    machine = with_handlers(machine_of(HALT))
    for port, value in (
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0xA0, 0x11),
        (0xA1, 0x70),
        (0xA1, 2),
        (0xA1, 1),
    ):
        machine.ports.write(port, 1, value)
    machine.ports.write(0x21, 1, 0xFB)
    machine.ports.write(0xA1, 1, 0xFE)
    machine.ports.write(0x70, 1, 0x0B)
    machine.ports.write(0x71, 1, 0x12)
    assert handler(machine) == 0x70
    assert machine.now_ns == 1_000_001_000


def test_the_acpi_timer_wakes_by_level():
    machine = with_handlers(machine_of(HALT))
    mask_pics(machine)
    configure(machine, POWER, 0x40, 4, 0x601)
    configure(machine, POWER, 0x80, 1, 1)
    machine.ports.write(0x602, 2, 1)
    machine.ports.write(0xB2, 1, 0xF1)
    route(machine, 9, 1 << 15 | 0x59)
    assert handler(machine) == 0x59
    assert machine.now_ns // 1_000_000 == 2343
    assert machine.pc.ioapic.table[9] & 1 << 14


@pytest.mark.parametrize(
    ("low", "interrupts", "reason"),
    [(1 << 16 | 0x71, "fb", StopReason.HALTED), (0x71, "fa", StopReason.HALTED), (0x771, "fb", StopReason.HALTED),
     (0x471, "fa", StopReason.HALTED)],
    ids=["masked", "interrupts off", "ExtINT", "NMI"],
)  # fmt: skip
def test_a_halt_ends_only_if_something_wakes(low, interrupts, reason):
    machine = with_handlers(machine_of(interrupts + "f4"))
    mask_pics(machine)
    route(machine, 2, low)
    start_pit(machine)
    result = machine.run(100)
    assert result.reason == reason
    assert (machine.now_ns > 500_000) == (low == 0x471)  # an NMI does, and its handler's HLT is for good


def test_an_smi_by_message_does_not_wake_inside_smm():
    machine = with_handlers(machine_of("fa" + "f4"))
    machine.memory.write(1, 0x38000, 1, 0xF4)
    mask_pics(machine)
    route(machine, 2, 0x271)
    start_pit(machine)
    assert machine.run(100).reason == StopReason.HALTED
    assert machine.cpu.state.smm


# ---- what unit tests want ----


def test_scratch_ports_and_scratch_memory(machine):
    machine.ports.write(0xE0, 4, 0x44332211)
    machine.ports.write(0xE1, 1, 0xAA)
    assert [machine.ports.read(port, 1) for port in (0xE0, 0xE1, 0xE2, 0xE3, 0xE4)] == [0x11, 0xAA, 0x33, 0x44, 0]
    machine.ports.write(0xE4, 4, 0x1000)
    machine.memory.write(0, 0xFF000FFE, 4, 0x12345678)
    assert machine.memory.read(0, 0xFF000FFE, 4) == 0x12345678
    assert machine.memory.read(0, 0xFF00FFFF, 1) == 0
    assert machine.memory.read(0, 0xFF010000, 1) == 0xFF


@pytest.mark.parametrize(("line", "pin"), [(0, 2), (14, 14), (20, 20)])
def test_a_line_by_its_port(line, pin):
    machine = with_handlers(machine_of("ba" + (0x2000 + line).to_bytes(2, "little").hex() + "b001fbee" + "90" * 2))
    mask_pics(machine)
    route(machine, pin, 0x71)
    assert handler(machine) == 0x71
    machine.ports.write(0x2000 + line, 1, 1)
    assert machine.lapic.pending() == -1
    twin = machine_of()
    twin.pc.load(machine.pc.snapshot())
    twin.lapic.load(machine.lapic.snapshot())
    twin.ports.write(0x2000 + line, 1, 1)  # it is up already
    assert twin.lapic.snapshot() == machine.lapic.snapshot()


# ---- state ----


def test_a_pc_refuses_to_be_saved_or_restored_in_part(machine):
    with pytest.raises(SchemaError, match="PC board"):
        save_state(machine)
    plain = Machine(MachineConfig(ram_bytes=RAM, slots=ram_slots(RAM)))
    vm, vcpus = save_sections(plain).vm, save_sections(plain).vcpus
    with pytest.raises(SchemaError, match="PC board"):
        load_sections(machine, vm, vcpus)


def test_the_board_after_a_round_trip():
    machine = machine_of()
    configure(machine, HOST, SMRAM, 1, 0x4A)
    configure(machine, HOST, PAM + 1, 1, 0x00)
    configure(machine, POWER, 0x40, 4, 0x601)
    configure(machine, POWER, 0x80, 1, 1)
    machine.ports.write(0x92, 1, 0)
    machine.ports.write(0x402, 1, 0x41)
    machine.ports.write(0x80, 1, 0x77)
    route(machine, 4, 0x44)
    machine.set_irq(4, 1)
    twin = machine_of()
    twin.serial.load(machine.serial.snapshot())
    twin.pc.load(machine.pc.snapshot())
    assert twin.pc.snapshot() == machine.pc.snapshot()
    for as_id in (0, 1):
        for gpa in (0xA0000, 0xC0000, 0xC8000, MIB, 3 * MIB):
            assert twin.memory.page_offset(as_id, gpa) == machine.memory.page_offset(as_id, gpa)
    assert twin.ports.read(0x628, 4) == 0
