"""Migrating at every instruction boundary gives the same final state as not migrating at all.

A migration here is the whole path but for sockets: save, write a stream, verify it with the independent verifier,
read it, restore in a fresh machine. "State" is every section, all of memory and the console output.
"""

import pytest

from emulator.config import MIB, ImageConfig, MachineConfig, StartConfig, ram_slots
from emulator.machine import StopReason

FOREVER = 1 << 40
SMIS_PLACED = 0x670
"""Where the ticker counts the SMIs that it has placed; the count chooses the shadow."""
PARTS = 8
"""The boundaries are dealt out to this many tests, so that they run in parallel."""


@pytest.fixture(scope="module")
def reference(start_guest):
    """The uninterrupted run of a guest: name -> (steps, outcome)."""
    held = {}

    def run(name):
        if name not in held:
            machine = start_guest(name)
            result = machine.run(FOREVER)
            assert result.reason == StopReason.DEBUG_EXIT
            assert machine.machine.exit_code == 0
            held[name] = (result.steps, machine.outcome())
        return held[name]

    return run


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", ["smm_corners", pytest.param("smm_corners32", marks=pytest.mark.campaign)])
def test_one_migration_at_any_boundary_does_not_change_the_final_state(start_guest, reference, name, part):
    steps, expected = reference(name)
    source = start_guest(name)
    source.run(part)
    for boundary in range(part, steps + 1, PARTS):
        destination = source.migrate()
        destination.run(FOREVER)
        assert destination.outcome() == expected, f"differs after a migration at boundary {boundary}"
        source.run(PARTS)


@pytest.mark.parametrize("name", ["smm_corners", "smm_corners32"])
def test_a_migration_at_every_boundary_of_one_run_does_not_change_the_final_state(start_guest, reference, name):
    steps, expected = reference(name)
    machine = start_guest(name)
    for _ in range(steps):
        machine = machine.migrate(verify=False)
        machine.run(1)
    assert machine.outcome() == expected


def smi_window(machine, before, after, most=2000):
    """Run up to `before` boundaries ahead of the next SMI; return the boundaries from there to `after` behind RSM."""
    probe = machine.migrate(verify=False)
    state = probe.machine.cpu.state
    steps = 0
    while not state.smm:
        probe.run(1)
        steps += 1
        assert steps < most, "no SMI came"
    machine.run(max(steps - before, 0))
    entered = steps
    while state.smm:
        probe.run(1)
        steps += 1
        assert steps < entered + most, "the SMI handler never ended"
    return steps - max(entered - before, 0) + after


@pytest.mark.parametrize("part", range(4))
def test_two_migrations_at_any_pair_of_boundaries_around_an_smi_in_a_shadow(start_guest, reference, part):
    _, expected = reference("smm_corners")
    first = start_guest("smm_corners")
    for _ in range(2):  # the third SMI is the first in an STI shadow
        first.run(smi_window(first, 0, 2))
    window = smi_window(first, 2, 2)
    first.run(part)
    for a in range(part, window, 4):
        second = first.migrate(verify=False)
        for b in range(a, window):
            destination = second.migrate(verify=False)
            destination.run(FOREVER)
            assert destination.outcome() == expected, f"differs after migrations {a} and {b} boundaries into the window"
            second.run(1)
        first.run(4)


@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("name", ["ticker32", "ticker64"])
def test_a_migration_at_every_boundary_around_an_smi_of_the_ticker(start_guest, name, kind):
    machine = start_guest(name, ram_bytes=2 << 20, ticks=20, working_set_pages=8, pit_count=2000)
    memory = machine.machine.memory
    while memory.read(0, SMIS_PLACED, 4) < kind:
        machine.run(50)
    while memory.read(0, SMIS_PLACED, 4) == kind:
        machine.run(1)
    window = smi_window(machine, 6, 12)
    straight = machine.migrate()
    straight.run(window)
    for _ in range(window):
        machine = machine.migrate(verify=False)
        machine.run(1)
    assert machine.outcome() == straight.outcome()


@pytest.mark.parametrize("name", ["ticker32", "ticker64"])
def test_a_ticker_that_migrates_all_the_time_ends_as_one_that_does_not(start_guest, name):
    options = {"ram_bytes": 2 << 20, "ticks": 12, "working_set_pages": 16, "line_ticks": 4, "pit_count": 2000}
    straight = start_guest(name, **options)
    assert straight.run(FOREVER).reason == StopReason.DEBUG_EXIT
    machine = start_guest(name, **options)
    while machine.run(997).reason == StopReason.BUDGET:
        machine = machine.migrate()
    assert machine.outcome() == straight.outcome()
    assert machine.machine.exit_code == 0
    assert machine.console.count(b"\n") == 4


SLEEPER = bytes.fromhex(
    "bc 00 70"  # mov sp,0x7000
    "b0 11 e6 20 b0 20 e6 21 b0 04 e6 21 b0 01 e6 21 b0 fe e6 21"  # 8259 at 0x20, only the timer unmasked
    "b0 34 e6 43 b0 a9 e6 40 b0 04 e6 40"  # 8254: mode 2, count 1193
    "fb f4 eb fd"  # sti; 1: hlt; jmp 1b
)
TICK = bytes.fromhex("fe 06 00 05 b0 20 e6 20 cf")  # inc byte [0x500]; EOI; iret
ALARM = bytes.fromhex("fe 06 01 05 cf")  # inc byte [0x501]; iret


@pytest.fixture
def sleeper(start_machine):
    """A guest that sleeps in HLT between timer interrupts, with one interrupt of the local APIC's timer to come."""
    vectors = {0x20: 0x9000, 0x41: 0x9100}
    images = [(0x8000, SLEEPER), (0x9000, TICK), (0x9100, ALARM)]
    images += [(4 * number, offset.to_bytes(4, "little")) for number, offset in vectors.items()]
    config = MachineConfig(
        ram_bytes=MIB,
        slots=ram_slots(MIB),
        start=StartConfig(0, 0, 0x8000),
        images=tuple(ImageConfig(0, gpa, data) for gpa, data in images),
    )
    started = start_machine(config)
    lapic = started.machine.lapic
    for register, value in ((0xF0, 0x1FF), (0x3E0, 10), (0x320, 0x41), (0x380, 30_001)):  # divided by 128: 3.84 ms
        lapic.mmio_write(register, 4, value)
    return started


def test_sleep_and_timers_survive_a_migration_at_every_boundary(sleeper):
    straight = sleeper.migrate()
    straight.run(150)
    seen = set()
    for _ in range(150):
        sleeper = sleeper.migrate(verify=False)
        seen.add(sleeper.machine.cpu.state.mp_state)
        sleeper.run(1)
    assert sleeper.outcome() == straight.outcome()
    assert seen == {0, 3}
    assert sleeper.machine.memory.read(0, 0x500, 2) == 0x100 | 22
