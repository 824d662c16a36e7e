"""The local APIC beyond interrupts and one timer: TSC deadline, x2APIC, errors, addressing, levels, reset."""

import pytest

from emulator.config import MIB, ImageConfig, MachineConfig, StartConfig, ram_slots
from emulator.devices.lapic import EOI, ICR, ICR2, ID, IRR, LVT0, LVTT, SPIV, TMCCT, TMICT, TPR, Lapic
from emulator.devices.lapic_registers import DFR, ESR, ISR, LDR, LVTERR, SELF_IPI, TMR
from emulator.devices.x2apic import read_register, write_register
from emulator.exceptions import GP, GuestFault
from emulator.machine import Machine, StopReason

DEADLINE_MODE = 2 << 17
SENT_ILLEGAL, RECEIVED_ILLEGAL, ILLEGAL_REGISTER = 0x20, 0x40, 0x80


def nothing():
    pass


class World:
    """A clock, a counter that runs at 3 per ns, and what the local APIC told."""

    def __init__(self):
        self.ns = 0
        self.ended = []
        self.asked = []
        self.lapic = Lapic(
            lambda: self.ns,
            *(lambda what=what: self.asked.append(what) for what in ("smi", "nmi", "init")),
            nothing,
            self.ended.append,
            lambda tsc: max(-(-tsc // 3), self.ns),
        )
        self.lapic.mmio_write(SPIV, 4, 0x1FF)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def lapic(world):
    return world.lapic


def vectors(lapic, base=IRR):
    return [n for n in range(256) if lapic.page.has(base, n)]


def faults(action, *args):
    with pytest.raises(GuestFault) as caught:
        action(*args)
    return (caught.value.vector, caught.value.error_code) == (GP, 0)


# ---- TSC deadline ----


def test_the_deadline_fires_once_when_the_counter_reaches_it(world, lapic):
    lapic.mmio_write(LVTT, 4, DEADLINE_MODE | 0x55)
    lapic.set_tsc_deadline(3001)
    assert (lapic.tsc_deadline, lapic.deadline_ns) == (3001, 1001)
    lapic.due(1000)
    assert vectors(lapic) == []
    lapic.due(1001)
    assert vectors(lapic) == [0x55]
    assert (lapic.tsc_deadline, lapic.deadline_ns) == (0, None)


def test_a_deadline_in_the_past_fires_now_and_zero_disarms(world, lapic):
    world.ns = 5000
    lapic.mmio_write(LVTT, 4, DEADLINE_MODE | 0x55)
    lapic.set_tsc_deadline(1)
    assert lapic.deadline_ns == 5000
    lapic.set_tsc_deadline(0)
    assert lapic.deadline_ns is None


def test_the_deadline_is_ignored_in_the_other_modes_and_the_count_in_this_one(lapic):
    lapic.set_tsc_deadline(3000)
    assert (lapic.tsc_deadline, lapic.deadline_ns) == (0, None)
    lapic.mmio_write(LVTT, 4, DEADLINE_MODE | 0x55)
    lapic.mmio_write(TMICT, 4, 1000)
    assert (lapic.mmio_read(TMICT, 4), lapic.deadline_ns) == (0, None)
    lapic.set_tsc_deadline(3000)
    assert lapic.mmio_read(TMCCT, 4) == 0


@pytest.mark.parametrize("modes", [(DEADLINE_MODE, 0), (0, DEADLINE_MODE), (1 << 17, DEADLINE_MODE)])
def test_going_to_or_from_deadline_mode_disarms(lapic, modes):
    before, after = modes
    lapic.mmio_write(LVTT, 4, before | 0x55)
    lapic.set_tsc_deadline(3000)
    lapic.mmio_write(TMICT, 4, 1000)
    assert lapic.deadline_ns is not None
    lapic.mmio_write(LVTT, 4, after | 0x55)
    assert (lapic.deadline_ns, lapic.tsc_deadline, lapic.mmio_read(TMICT, 4)) == (None, 0, 0)


def test_going_from_one_shot_to_periodic_leaves_the_timer_running(lapic):
    lapic.mmio_write(LVTT, 4, 0x55)
    lapic.mmio_write(TMICT, 4, 1000)
    when = lapic.deadline_ns
    lapic.mmio_write(LVTT, 4, 1 << 17 | 0x55)
    assert lapic.deadline_ns == when is not None


def test_without_the_feature_the_mode_bit_cannot_be_set():
    plain = Lapic(lambda: 0, nothing, nothing, nothing, nothing)
    plain.mmio_write(LVTT, 4, DEADLINE_MODE | 0x55)
    assert plain.mmio_read(LVTT, 4) & 3 << 17 == 0


def machine_of(code, **options):
    images = (ImageConfig(0, 0x1000, bytes.fromhex(code)),)
    start = StartConfig(0, 0, 0x1000)
    made = Machine(MachineConfig(ram_bytes=MIB, slots=ram_slots(MIB), start=start, images=images, **options))
    made.lapic.mmio_write(SPIV, 4, 0x1FF)
    return made


def test_a_guest_arms_the_deadline_by_msr_and_wakes_from_hlt_at_it():
    # mov ecx,0x6e0; xor edx,edx; mov eax,500000; wrmsr; sti; hlt; rdmsr
    machine = machine_of("66b9e00600006631d266b820a107000f30fbf40f32")
    machine.lapic.mmio_write(LVTT, 4, DEADLINE_MODE | 0x55)
    assert machine.run(6).reason == StopReason.BUDGET
    assert machine.lapic.tsc_deadline == 500_000
    machine.memory.write(0, 4 * 0x55, 4, 0x1100)
    machine.memory.write(0, 0x1100, 1, 0xF4)
    assert machine.run(2).reason == StopReason.HALTED  # the handler's HLT
    assert machine.now_ns == 501_000
    assert machine.cpu.state.rip == 0x1101


def test_setting_the_counter_moves_the_deadline():
    machine = machine_of("90")
    machine.lapic.mmio_write(LVTT, 4, DEADLINE_MODE | 0x55)
    machine.lapic.set_tsc_deadline(1_000_000)
    assert machine.lapic.deadline_ns == 1_000_000
    machine.cpu.state.tsc_offset = 400_000
    machine.cpu.bus.tsc_changed()
    assert machine.lapic.deadline_ns == 600_000


def test_a_model_without_the_features_has_neither_msr_nor_mode():
    machine = machine_of("0f32", cpu_model="pentium")
    machine.cpu.state.gpr[1] = 0x6E0
    machine.run(1)
    assert machine.cpu.state.exception_nr == GP
    machine.lapic.mmio_write(LVTT, 4, DEADLINE_MODE)
    assert machine.lapic.mmio_read(LVTT, 4) & DEADLINE_MODE == 0
    assert not machine.cpu.model.x2apic


# ---- x2APIC ----


@pytest.fixture
def x2apic(lapic):
    lapic.set_mode(True, True)
    return lapic


def msr(register):
    return 0x800 + (register >> 4)


def test_identity_in_x2apic_mode(lapic):
    lapic.mmio_write(ID, 4, 0x12000000)
    lapic.set_mode(True, True)
    assert read_register(lapic, 0x802) == 0
    assert read_register(lapic, 0x80D) == 1
    assert read_register(lapic, 0x803) == 0x50014


def test_registers_are_msrs_only_in_x2apic_mode(lapic):
    assert faults(read_register, lapic, msr(TPR))
    assert faults(write_register, lapic, msr(TPR), 0)
    lapic.set_mode(True, True)
    write_register(lapic, msr(TPR), 0x50)
    assert read_register(lapic, msr(TPR)) == lapic.tpr == 0x50


@pytest.mark.parametrize("register", [0, 0x90, DFR, ICR2, EOI, SELF_IPI, 0x3D0, 0x400, 0xFF0])
def test_what_cannot_be_read_faults(x2apic, register):
    assert faults(read_register, x2apic, msr(register))


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (ID, 0), (0x30, 0), (0xA0, 0), (LDR, 0), (DFR, 0), (ICR2, 0), (ISR, 0), (IRR, 0), (TMCCT, 0), (0x400, 0),
        (TPR, 0x100), (SPIV, 0x400), (LVTT, 3 << 20), (TMICT, 1 << 32), (EOI, 1), (ESR, 1), (SELF_IPI, 0x100),
        (ICR, 1 << 20), (ICR, 1 << 13), (LVT0, 1 << 20),
    ],
)  # fmt: skip
def test_read_only_registers_and_reserved_bits_fault(x2apic, register, value):
    before = bytes(x2apic.regs)
    assert faults(write_register, x2apic, msr(register), value)
    assert bytes(x2apic.regs) == before


def test_the_command_register_is_one_write_of_64_bits(x2apic, world):
    write_register(x2apic, msr(ICR), 0x4041)
    assert vectors(x2apic) == [0x41]
    write_register(x2apic, msr(ICR), 0x4042 | 1 << 32)
    assert vectors(x2apic) == [0x41]
    assert read_register(x2apic, msr(ICR)) == 0x4042 | 1 << 32
    write_register(x2apic, msr(ICR), 0x4400 | 0xFFFFFFFF << 32)
    assert world.asked == ["nmi"]


@pytest.mark.parametrize(("destination", "hit"), [(1, True), (2, False), (0x10001, False), (0xFFFFFFFF, True)])
def test_logical_destinations_in_x2apic_mode_are_clusters(x2apic, destination, hit):
    write_register(x2apic, msr(ICR), 0x4841 | destination << 32)
    assert bool(vectors(x2apic)) == hit


def test_self_ipi_and_eoi_by_msr(x2apic):
    write_register(x2apic, msr(SELF_IPI), 0x61)
    assert x2apic.acknowledge(x2apic.pending()) == 0x61
    assert vectors(x2apic, ISR) == [0x61]
    write_register(x2apic, msr(EOI), 0)
    assert vectors(x2apic, ISR) == []


@pytest.mark.parametrize(
    ("steps", "legal"),
    [
        ([0xC00], True),
        ([0xC00, 0x800], False),
        ([0xC00, 0x000, 0x800], True),
        ([0x000, 0xC00], False),
        ([0x400], False),
        ([0x000, 0x400], False),
        ([0xA00], False),
    ],
    ids=["on", "back to xAPIC", "through off", "off to x2APIC", "EXTD alone", "off to EXTD alone", "reserved"],
)
def test_changes_of_the_apic_mode(steps, legal):
    machine = machine_of("0f30" * 3)
    for bits in steps:
        machine.cpu.state.gpr[1], machine.cpu.state.gpr[2] = 0x1B, 0
        machine.cpu.state.gpr[0] = 0xFEE00100 | bits
        machine.run(1)
    assert machine.cpu.state.exception_pending != legal
    if legal:
        assert machine.lapic.x2apic == (steps[-1] == 0xC00)
        assert machine.lapic.hardware_enabled


def test_the_page_is_gone_in_x2apic_mode_and_back_after():
    machine = machine_of("90")
    for base, shown in ((0xFEE00900, True), (0xFEE00D00, False), (0xFEE00100, False), (0xFEE00900, True)):
        machine.place_lapic(base)
        assert (machine.memory.read(0, 0xFEE00030, 4) == 0x50014) == shown


def test_a_guest_reads_its_registers_by_rdmsr():
    machine = machine_of("0f32")
    machine.cpu.state.apic_base = 0xFEE00D00
    machine.place_lapic(0xFEE00D00)
    machine.cpu.state.gpr[1] = 0x803
    machine.run(1)
    assert (machine.cpu.state.gpr[0], machine.cpu.state.gpr[2]) == (0x50014, 0)


@pytest.mark.parametrize(("base", "offered"), [(0xFEE00900, True), (0xFEE00D00, True), (0xFEE00100, False)])
def test_cpuid_offers_the_local_apic_while_it_is_on(base, offered):
    machine = machine_of("0fa2")
    machine.cpu.state.apic_base = base
    machine.cpu.state.gpr[0] = 1
    machine.run(1)
    assert bool(machine.cpu.state.gpr[2] & 1 << 9) == offered
    assert machine.cpu.state.gpr[1] >> 21 & 1
    assert machine.cpu.state.gpr[1] >> 24 & 1


# ---- errors ----


def read_errors(lapic):
    lapic.mmio_write(ESR, 4, 0)
    return lapic.mmio_read(ESR, 4)


def test_errors_show_after_a_write_and_are_collected_anew(lapic):
    lapic.mmio_read(0x3F0, 4)
    assert lapic.mmio_read(ESR, 4) == 0
    assert read_errors(lapic) == ILLEGAL_REGISTER
    assert lapic.mmio_read(ESR, 4) == ILLEGAL_REGISTER
    assert read_errors(lapic) == 0


@pytest.mark.parametrize(
    ("cause", "bit"),
    [
        (lambda lapic: lapic.mmio_read(0x400, 4), ILLEGAL_REGISTER),
        (lambda lapic: lapic.mmio_write(0x3F0, 4, 0), ILLEGAL_REGISTER),
        (lambda lapic: lapic.mmio_write(ICR, 4, 0x4400F & ~0x400), SENT_ILLEGAL),
        (lambda lapic: lapic.accept(0xF), RECEIVED_ILLEGAL),
    ],
    ids=["read beyond", "write of nothing", "command", "message"],
)
def test_every_error_raises_the_error_interrupt(lapic, cause, bit):
    lapic.mmio_write(LVTERR, 4, 0xEE)
    cause(lapic)
    assert vectors(lapic) == [0xEE]
    assert read_errors(lapic) == bit


def test_an_illegal_error_vector_is_an_error_and_ends_there(lapic):
    lapic.mmio_write(LVTERR, 4, 0x05)
    lapic.mmio_read(0x400, 4)
    assert vectors(lapic) == []
    assert read_errors(lapic) == ILLEGAL_REGISTER | RECEIVED_ILLEGAL


def test_the_timer_with_an_illegal_vector_is_an_error(lapic):
    lapic.mmio_write(LVTT, 4, 0x03)
    lapic.mmio_write(TMICT, 4, 10)
    lapic.due(100)
    assert vectors(lapic) == []
    assert read_errors(lapic) == RECEIVED_ILLEGAL


def test_collected_errors_travel_in_the_page(lapic):
    lapic.accept(3)
    twin = World().lapic
    twin.load(lapic.snapshot())
    assert read_errors(twin) == RECEIVED_ILLEGAL


# ---- addressing, levels, spurious, reset ----


@pytest.mark.parametrize(
    ("ldr", "dfr", "destination", "hit"),
    [
        (0x04, 0xF, 0x06, True),
        (0x04, 0xF, 0x03, False),
        (0x04, 0xF, 0xFF, True),
        (0x24, 0x0, 0x24, True),
        (0x24, 0x0, 0x2C, True),
        (0x24, 0x0, 0x14, False),
        (0x24, 0x0, 0x2B, False),
        (0x24, 0x0, 0xFF, True),
    ],
)
def test_logical_destinations_flat_and_cluster(lapic, ldr, dfr, destination, hit):
    lapic.mmio_write(LDR, 4, ldr << 24)
    lapic.mmio_write(DFR, 4, dfr << 28)
    lapic.mmio_write(ICR2, 4, destination << 24)
    lapic.mmio_write(ICR, 4, 0x4841)
    assert bool(vectors(lapic)) == hit


def test_only_the_end_of_a_level_interrupt_is_told(lapic, world):
    for vector, level in ((0x41, True), (0x52, False)):
        lapic.accept(vector, level)
    assert vectors(lapic, TMR) == [0x41]
    for vector in (0x52, 0x41):
        assert lapic.acknowledge(lapic.pending()) == vector
        lapic.mmio_write(EOI, 4, 0)
    assert world.ended == [0x41]
    lapic.accept(0x41, False)
    assert vectors(lapic, TMR) == []


def test_an_acknowledge_with_nothing_pending_is_the_spurious_vector(lapic):
    lapic.mmio_write(SPIV, 4, 0x1EF)
    assert lapic.acknowledge(lapic.pending()) == 0xEF
    assert vectors(lapic, ISR) == []


@pytest.mark.parametrize(("mode", "asked"), [(2, "smi"), (4, "nmi"), (5, "init"), (6, None), (7, None)])
def test_messages_of_other_delivery_modes(lapic, world, mode, asked):
    assert lapic.deliver(mode, 0) == (asked is not None)
    assert world.asked == [asked] * (asked is not None)
    lapic.set_hardware_enabled(False)
    assert not lapic.deliver(mode, 0)


def test_init_resets_the_local_apic():
    machine = machine_of("90")
    machine.lapic.accept(0x55)
    machine.lapic.mmio_write(TPR, 4, 0x20)
    machine.cpu.request_init()
    machine.run(1)
    assert (machine.lapic.tpr, vectors(machine.lapic), machine.lapic.software_enabled) == (0, [], False)
