"""What the rules say of the emulator's own states: nothing but notes that a guest earned, on any vendor's hardware."""

import pytest

from emulator.bridge import save_state
from emulator.guests import GUESTS
from emulator.machine import Machine, StopReason
from schemas.invariants import check_state
from schemas.rules.row import AMD, INTEL

EARNED = {
    "ticker32": set(),
    "ticker64": set(),
    "smm_corners": {"INV-010"},  # a handler that executes IRET
    "smm_corners32": {"INV-010"},
}
STEPS = 250


class GuestMemory:
    """The memory of a machine as the schemas read it."""

    def __init__(self, memory):
        self.memory = memory

    def read(self, as_id, gpa, size):
        if self.memory.page_offset(as_id, gpa) < 0:
            raise LookupError(hex(gpa))
        return self.memory.read_bytes(as_id, gpa, size)


def test_every_guest_is_here():
    assert EARNED.keys() == GUESTS.keys()


@pytest.mark.parametrize("vendor", [None, INTEL, AMD])
@pytest.mark.parametrize("guest", EARNED)
def test_no_rule_finds_fault_with_a_state_of_the_emulator(guest, vendor):
    machine = Machine(GUESTS[guest].config())
    memory = GuestMemory(machine.memory)
    found = set()
    for _ in range(STEPS):
        if machine.run(7).reason != StopReason.BUDGET:
            break
        found |= {finding.rule for finding in check_state(save_state(machine), host_vendor=vendor, memory=memory)}
    assert found == EARNED[guest]
