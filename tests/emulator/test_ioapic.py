"""The I/O APIC: edges, levels, remote IRR, EOI, masks, registers, state."""

import pytest

from emulator.devices.ioapic import Ioapic, pin_of
from emulator.devices.lapic import EOI, SPIV, Lapic

LEVEL, MASKED, REMOTE_IRR, LOGICAL = 1 << 15, 1 << 16, 1 << 14, 1 << 11


class World:
    def __init__(self):
        self.asked = []
        requests = (lambda what=what: self.asked.append(what) for what in ("smi", "nmi", "init"))
        self.lapic = Lapic(lambda: 0, *requests, lambda: None, lambda vector: self.ioapic.end_of_interrupt(vector))
        self.lapic.mmio_write(SPIV, 4, 0x1FF)
        self.ioapic = Ioapic(self.lapic)

    def route(self, pin, low, high=0):
        for register, value in ((0x11 + 2 * pin, high), (0x10 + 2 * pin, low)):
            self.ioapic.mmio_write(0, 4, register)
            self.ioapic.mmio_write(0x10, 4, value)

    def read(self, register):
        self.ioapic.mmio_write(0, 1, register)
        return self.ioapic.mmio_read(0x10, 4)

    def take(self):
        return self.lapic.acknowledge(self.lapic.pending())

    def end(self):
        self.lapic.mmio_write(EOI, 4, 0)


@pytest.fixture
def world():
    return World()


def test_identity(world):
    assert world.read(1) == 0x170011
    world.ioapic.mmio_write(0, 4, 0)
    world.ioapic.mmio_write(0x10, 4, 0xFFFFFFFF)
    assert world.read(0) == world.read(2) == 0x0F000000
    assert world.read(0x10) == MASKED
    assert world.read(0x40) == 0xFFFFFFFF
    assert (world.ioapic.mmio_read(0, 4), world.ioapic.mmio_read(0x20, 4)) == (0x40, 0)


def test_the_timer_comes_to_pin_2():
    assert [pin_of(irq) for irq in (0, 1, 8, 15)] == [2, 1, 8, 15]


def test_an_edge_interrupts_once(world):
    world.route(4, 0x41)
    world.ioapic.set_pin(4, 1)
    world.ioapic.set_pin(4, 1)
    assert world.take() == 0x41
    world.end()
    assert world.lapic.pending() == -1
    world.ioapic.set_pin(4, 0)
    world.ioapic.set_pin(4, 1)
    assert world.take() == 0x41


def test_an_edge_on_a_masked_pin_is_lost(world):
    world.route(4, MASKED | 0x41)
    world.ioapic.set_pin(4, 1)
    world.route(4, 0x41)
    assert world.lapic.pending() == -1


def test_a_level_interrupts_again_after_its_end_while_it_lasts(world):
    world.route(9, LEVEL | 0x51)
    world.ioapic.set_pin(9, 1)
    assert world.read(0x22) == LEVEL | REMOTE_IRR | 0x51
    assert world.take() == 0x51
    world.end()
    assert world.take() == 0x51
    world.ioapic.set_pin(9, 0)
    world.end()
    assert world.read(0x22) == LEVEL | 0x51
    assert world.lapic.pending() == -1


def test_unmasking_a_pin_with_its_level_up_interrupts(world):
    world.route(9, LEVEL | MASKED | 0x51)
    world.ioapic.set_pin(9, 1)
    assert world.lapic.pending() == -1
    world.route(9, LEVEL | 0x51)
    assert world.take() == 0x51


def test_masked_while_in_service_the_level_waits_for_the_unmasking(world):
    world.route(9, LEVEL | 0x51)
    world.ioapic.set_pin(9, 1)
    world.take()
    world.route(9, LEVEL | MASKED | 0x51)
    world.end()
    assert world.lapic.pending() == -1
    assert world.read(0x22) == LEVEL | MASKED | 0x51
    world.route(9, LEVEL | 0x51)
    assert world.take() == 0x51


def test_remote_irr_is_not_written_and_an_edge_clears_it(world):
    world.route(9, LEVEL | 0x51)
    world.ioapic.set_pin(9, 1)
    world.route(9, LEVEL | MASKED | 0x51)
    assert world.read(0x22) & REMOTE_IRR
    world.route(9, MASKED | 0x51)
    assert not world.read(0x22) & REMOTE_IRR
    world.route(3, MASKED | REMOTE_IRR | 1 << 12)
    assert world.read(0x16) == MASKED


def test_the_end_of_another_vector_changes_nothing(world):
    world.route(9, LEVEL | 0x51)
    world.ioapic.set_pin(9, 1)
    world.ioapic.end_of_interrupt(0x52)
    assert world.read(0x22) & REMOTE_IRR


@pytest.mark.parametrize(
    ("low", "high", "hit"),
    [
        (0x41, 0, True),
        (0x41, 1 << 24, False),
        (0x41, 0xFF << 24, True),
        (LOGICAL | 0x41, 1 << 24, True),
        (LOGICAL | 0x41, 2 << 24, False),
        (0x100 | 0x41, 0, True),
    ],
    ids=["id", "other id", "all", "logical", "other logical", "lowest priority"],
)
def test_destinations(world, low, high, hit):
    world.lapic.mmio_write(0xD0, 4, 1 << 24)
    world.route(4, low, high)
    world.ioapic.set_pin(4, 1)
    assert (world.lapic.pending() == 0x41) == hit


@pytest.mark.parametrize(("mode", "asked"), [(2, ["smi"]), (4, ["nmi"]), (5, ["init"]), (7, [])])
def test_other_delivery_modes(world, mode, asked):
    world.route(4, mode << 8)
    world.ioapic.set_pin(4, 1)
    assert world.asked == asked
    assert world.ioapic.would_deliver(4) == mode


@pytest.mark.parametrize(
    ("low", "high", "priority", "mode"),
    [(0x41, 0, 0, 0), (0x141, 0, 0, 1), (MASKED | 0x41, 0, 0, None), (0x41, 1 << 24, 0, None), (0x41, 0, 0x40, None)],
    ids=["fixed", "lowest priority", "masked", "another APIC", "task priority"],
)
def test_what_a_line_would_deliver(world, low, high, priority, mode):
    world.route(4, low, high)
    world.lapic.set_tpr(priority)
    assert world.ioapic.would_deliver(4) == mode


def test_narrow_and_high_accesses(world):
    world.route(4, 0x41, 0x05000000)
    assert world.read(0x19) == 0x05000000
    world.ioapic.mmio_write(0, 4, 0x18)
    assert world.ioapic.mmio_read(0x10, 1) == 0x41
    assert world.ioapic.mmio_read(0x10, 8) == 0x41


def test_what_is_sent_and_what_waits_survives_a_round_trip(world):
    world.route(4, 0x41)
    world.route(9, LEVEL | 0x51)
    world.route(8, MASKED | 0x61)
    for pin in (4, 8, 9):
        world.ioapic.set_pin(pin, 1)
    state = world.ioapic.snapshot()
    assert state["irr"] == 1 << 8 | 1 << 9
    assert (state["base_address"], len(state["redirtbl"])) == (0xFEC00000, 24)
    twin = World()
    twin.ioapic.load(state, lines=1 << 4 | 1 << 8 | 1 << 9)
    assert twin.ioapic.snapshot() == state
    twin.ioapic.set_pin(4, 1)  # no new edge
    assert twin.lapic.pending() == -1
    twin.ioapic.end_of_interrupt(0x51)
    assert twin.take() == 0x51
