"""Virtual time, waiting, devices reached through instructions, and determinism."""

import random

import pytest

from emulator.config import MIB, ImageConfig, MachineConfig, StartConfig, ram_slots
from emulator.guests import GUESTS
from emulator.machine import Machine, MachineError, StopReason

ENTRY = 0x8000
HANDLER = 0x38000
FOREVER = 1 << 40

CLI, STI, HLT, NOP, IRET = "fa", "fb", "f4", "90", "cf"
SPIN = "eb fe"
UNMASKED_TIMER = "b0 fe e6 21"  # mov al,0xfe; out 0x21,al
VECTORS_AT_20 = "b0 11 e6 20 b0 20 e6 21 b0 04 e6 21 b0 01 e6 21"
TIMER_1_MS = "b0 34 e6 43 b0 a9 e6 40 b0 04 e6 40"  # mode 2, count 1193
STACK = "bc 00 70"  # mov sp,0x7000
EXIT = "b0 07 e6 f4"  # mov al,7; out 0xf4,al


def machine_with(code, handler="0f aa", **options):
    """A machine that runs real-mode code (hex) at 0000:8000; `handler` (hex) is the SMI handler."""
    images = (ImageConfig(0, ENTRY, bytes.fromhex(code)), ImageConfig(1, HANDLER, bytes.fromhex(handler)))
    return Machine(
        MachineConfig(ram_bytes=MIB, slots=ram_slots(MIB), start=StartConfig(0, 0, ENTRY), images=images, **options)
    )


def vector(machine, number, offset):
    machine.memory.write(0, 4 * number, 4, offset)


def place(machine, gpa, code):
    machine.memory.write_bytes(0, gpa, bytes.fromhex(code))


def test_a_run_does_exactly_the_steps_asked_for():
    machine = machine_with(NOP * 10 + SPIN)
    assert machine.run(7) == (StopReason.BUDGET, 7)
    assert machine.cpu.state.rip == ENTRY + 7
    assert machine.now_ns == 7000
    assert machine.run(0) == (StopReason.BUDGET, 0)


def test_the_debug_exit_ends_the_run_for_good():
    machine = machine_with(EXIT + NOP)
    assert machine.run(100) == (StopReason.DEBUG_EXIT, 2)
    assert machine.exit_code == 7
    assert machine.debug_exit.status == 15
    assert machine.run(100) == (StopReason.DEBUG_EXIT, 0)


def test_hlt_with_interrupts_off_never_wakes():
    machine = machine_with(CLI + HLT)
    assert machine.run(1) == (StopReason.BUDGET, 1)
    assert machine.run(1) == (StopReason.HALTED, 1)
    assert machine.run(100) == machine.run(0) == (StopReason.HALTED, 0)
    assert machine.now_ns == 2000


def test_an_smi_or_nmi_from_outside_wakes_a_machine_that_was_halted_for_good():
    machine = machine_with(CLI + HLT + NOP + HLT)
    machine.run(100)
    machine.inject_smi()
    assert machine.run(0).reason == StopReason.BUDGET
    assert machine.run(1) == (StopReason.BUDGET, 1)
    assert not machine.cpu.state.smm
    assert machine.run(100).reason == StopReason.HALTED


def timer_guest():
    """Interrupts every ms; the handler counts at 0x500; the main loop halts."""
    machine = machine_with(STACK + VECTORS_AT_20 + UNMASKED_TIMER + TIMER_1_MS + STI + HLT + "eb fd")
    place(machine, 0x9000, "fe 06 00 05 b0 20 e6 20 cf")  # inc byte [0x500]; EOI; iret
    vector(machine, 0x20, 0x9000)
    return machine


def test_time_jumps_over_hlt_to_the_next_timer_interrupt():
    machine = timer_guest()
    machine.run(24 + 6 * 20)
    ticks = machine.memory.read(0, 0x500, 1)
    assert 15 < ticks < 22
    assert ticks * 999_000 < machine.now_ns < (ticks + 2) * 1_000_000
    assert machine.retired == 24 + 6 * 20


def test_halted_with_the_timer_masked_never_wakes():
    machine = machine_with(VECTORS_AT_20 + "b0 ff e6 21" + TIMER_1_MS + STI + HLT)
    assert machine.run(1000).reason == StopReason.HALTED


def test_an_smi_timer_wakes_hlt_even_with_interrupts_off():
    machine = machine_with("66 b8 00 00 10 00 66 e7 b8" + CLI + HLT + EXIT)  # 1048576 ns
    assert machine.run(100).reason == StopReason.DEBUG_EXIT
    assert 1_048_576 <= machine.now_ns < 1_060_000


@pytest.mark.parametrize(("ns", "steps_before"), [(1, 1), (1000, 1), (1001, 2), (2000, 2), (5000, 5)])
def test_the_smi_timer_places_an_smi_at_an_exact_boundary(ns, steps_before):
    machine = machine_with("66 b8 " + ns.to_bytes(4, "little").hex() + "66 e7 b8" + NOP * 10 + SPIN)
    machine.run(1 + steps_before)
    assert machine.cpu.state.smi_pending
    before = machine_with("66 b8 " + ns.to_bytes(4, "little").hex() + "66 e7 b8" + NOP * 10 + SPIN)
    before.run(steps_before)
    assert not before.cpu.state.smi_pending


def test_the_command_port_raises_an_smi_at_the_next_boundary():
    machine = machine_with("b0 5a e6 b2" + NOP * 3, handler="e4 b2 a2 00 05 0f aa")  # in al,0xb2; mov [0x500],al
    machine.run(2)
    assert machine.cpu.state.smi_pending
    machine.run(1)
    assert machine.cpu.state.smm
    machine.run(2)
    assert machine.memory.read(0, 0x500, 1) == 0x5A
    assert not machine.cpu.state.smm
    assert machine.cpu.state.gpr[0] & 0xFF == 0x5A


def test_the_guest_reads_a_counter_that_runs_in_virtual_time():
    machine = machine_with(TIMER_1_MS + NOP * 20 + "b0 00 e6 43 e4 40 88 c3 e4 40" + SPIN)
    machine.run(4 + 4 + 20 + 2 + 3)
    low, high = machine.cpu.state.gpr[3] & 0xFF, machine.cpu.state.gpr[0] & 0xFF
    elapsed_ns = (20 + 2) * 1000
    assert (high << 8 | low) == 1193 - elapsed_ns * 1193182 // 10**9


def test_the_tsc_runs_at_the_frequency_of_the_config():
    machine = machine_with(NOP * 9 + "0f 31" + SPIN, tsc_khz=2_000_000)
    machine.run(10)
    assert machine.cpu.state.gpr[0] == 9 * 2000


def test_an_interrupt_from_outside_needs_an_enabled_apic():
    machine = machine_with(STI + SPIN)
    machine.run(2)
    with pytest.raises(MachineError, match="not enabled"):
        machine.inject_interrupt(0x40)
    with pytest.raises(MachineError, match="16 to 255"):
        machine.inject_interrupt(3)
    machine.lapic.mmio_write(0xF0, 4, 0x1FF)
    vector(machine, 0x40, 0x9000)
    place(machine, 0x9000, SPIN)
    machine.cpu.state.gpr[4] = 0x7000
    machine.inject_interrupt(0x40)
    machine.run(1)
    assert machine.cpu.state.rip == 0x9000


def test_writing_the_apic_base_moves_the_page():
    machine = machine_with(SPIN)
    assert machine.memory.read(0, 0xFEE00030, 4) == 0x50014
    machine.place_lapic(0xFED00900)
    assert machine.memory.read(0, 0xFEE00030, 4) == 0xFFFFFFFF
    assert machine.memory.read(1, 0xFED00030, 4) == 0x50014
    machine.place_lapic(0xFEE00100)
    assert machine.memory.read(0, 0xFEE00030, 4) == 0xFFFFFFFF
    assert not machine.lapic.software_enabled


def test_a_triple_fault_ends_the_run():
    machine = machine_with("66 b8 01 00 00 00 0f 22 c0" + "0f 01 1e 00 05" + "0f 0b")  # PE; lidt [0x500] (empty); ud2
    result = machine.run(100)
    assert result.reason == StopReason.TRIPLE_FAULT


@pytest.mark.parametrize(
    ("options", "text"),
    [({"cpu_model": "z80"}, "no CPU model"), ({"vcpus": 2}, "one"), ({"ns_per_instruction": 0}, "positive")],
)
def test_impossible_configs_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        machine_with(NOP, **options)


def test_a_backing_of_the_wrong_size_is_refused():
    config = GUESTS["smm_corners"].config()
    with pytest.raises(ValueError, match="backing"):
        Machine(config, ram=bytearray(4096))


@pytest.mark.parametrize("name", GUESTS)
def test_a_run_in_pieces_is_the_run_in_one(name, machine_state):
    options = {} if "corners" in name else {"ticks": 3, "pit_count": 2000, "working_set_pages": 4}
    config = GUESTS[name].config(options)
    whole = Machine(config)
    total = whole.run(FOREVER).steps
    pieces, chance = Machine(config), random.Random(7)
    while pieces.run(chance.randrange(1, 40)).reason == StopReason.BUDGET:
        pass
    assert pieces.retired == total
    assert machine_state(pieces) == machine_state(whole)


@pytest.mark.parametrize("name", GUESTS)
def test_the_dirty_log_covers_every_page_that_changed(name):
    machine = Machine(GUESTS[name].config())
    memory = machine.memory
    for _ in range(12):
        before = bytes(memory.ram)
        memory.fetch_dirty(clear=True)
        machine.run(200 if "corners" in name else 5000)
        log = int.from_bytes(memory.fetch_dirty(clear=False), "little")
        changed = {
            page
            for page in range(memory.page_count)
            if before[page * 4096 : page * 4096 + 4096] != memory.ram[page * 4096 : page * 4096 + 4096]
        }
        assert changed <= {page for page in range(memory.page_count) if log >> page & 1}
