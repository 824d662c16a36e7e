"""Debian's SeaBIOS on the PC board, from reset to the message that there is nothing to boot."""

from pathlib import Path

import pytest

from emulator.bridge import load_sections, save_sections
from emulator.config import MIB, Board
from emulator.loaders import load_bios, machine_config
from emulator.machine import Machine, StopReason

ROM = Path("/usr/share/seabios/bios-256k.bin")
RAM = 16 * MIB
END = b"No bootable device."
LIMIT, CHUNK = 10_000_000, 50_000
HERE, BEYOND = 500_000, 3_000
"""Every HERE instructions a copy of the machine is made and run BEYOND instructions on."""

pytestmark = pytest.mark.skipif(not ROM.exists(), reason=f"{ROM} is not there (Debian package seabios)")


def booting():
    return Machine(machine_config(load_bios(ROM.read_bytes()), RAM, board=Board.PC))


def everything(machine):
    return save_sections(machine), machine.pc.snapshot(), bytes(machine.memory.ram)


def copy_of(machine):
    saved, board, ram = everything(machine)
    twin = Machine(machine.config, bytearray(ram), load_images=False)
    twin.pc.load(board)
    load_sections(twin, saved.vm, saved.vcpus)
    return twin


class Boot:
    """One boot, watched: where SMM was entered and left, when the message was complete, and how copies fared."""

    def __init__(self, patch):
        self.machine = booting()
        self.entered, self.left = [], []
        self.requested = []
        self.ended_at = None
        self.copies = []
        console, inject = self.machine.pc.console, self.machine.inject_smi

        def hear(port, size, value, write=console.port_write):
            write(port, size, value)
            if self.ended_at is None and console.output.endswith(END):
                self.ended_at = self.machine.retired

        def note():
            self.requested.append(self.machine.retired)
            inject()

        patch.setattr(console, "port_write", hear)
        patch.setattr(self.machine, "inject_smi", note)

    def run(self):
        while self.ended_at is None and self.machine.retired < LIMIT:
            assert self.machine.run(CHUNK).reason == StopReason.BUDGET
            if self.machine.retired % HERE < CHUNK:
                self.compare()

    def compare(self):
        twin = copy_of(self.machine)
        assert everything(twin) == everything(self.machine)
        twin.run(BEYOND)
        self.machine.run(BEYOND)
        self.copies.append(everything(twin) == everything(self.machine))


@pytest.fixture(scope="module")
def boot():
    with pytest.MonkeyPatch.context() as patch:
        for module in ("save", "restore"):
            patch.setattr(f"emulator.bridge.{module}.require_sections", lambda machine: None)
        boot = Boot(patch)
        boot.run()
        yield boot


def test_it_says_that_there_is_nothing_to_boot(boot):
    text = boot.machine.pc.console.read(0)[1]
    assert text.startswith(b"SeaBIOS (version ")
    assert b"Running on QEMU (i440fx)\n" in text
    assert b"addr 0x0000000000000000 len 0x0000000001000000 [RAM]" in text
    assert b"Found 1 cpu(s) max supported 1 cpu(s)" in text
    assert END in text
    print(f"SeaBIOS: {boot.ended_at} instructions, {boot.machine.now_ns / 1e9:.3f} virtual seconds")
    assert 5_000_000 < boot.ended_at < 7_000_000


def test_its_smm_code_was_entered_and_left(boot):
    """SMBASE moved, so RSM has loaded what the code at 0x38000 wrote; what it left is seen inside SMM only."""
    state, memory = boot.machine.cpu.state, boot.machine.memory
    assert len(boot.requested) == 1
    assert (state.smbase, state.smm, state.smi_pending) == (0xA0000, False, False)
    assert memory.read_bytes(0, 0xA8000, 16) == b"\xff" * 16
    assert memory.read_bytes(1, 0xA8000, 16) != b"\xff" * 16


def test_a_copy_at_any_time_goes_the_same_way(boot):
    assert len(boot.copies) > 8
    assert all(boot.copies)


@pytest.fixture
def no_refusal(monkeypatch):
    for module in ("save", "restore"):
        monkeypatch.setattr(f"emulator.bridge.{module}.require_sections", lambda machine: None)


def inside_smm(machine):
    """Go through one SMI, with a copy at every 20th instruction; return how many instructions it had."""
    inside = 0
    while machine.cpu.state.smm or not inside:
        assert machine.run(1).reason == StopReason.BUDGET
        inside += machine.cpu.state.smm
        if inside % 20 == 1:
            twin = copy_of(machine)
            twin.run(30)
            before = machine.retired
            ahead = copy_of(machine)
            ahead.run(15)
            ahead.run(15)
            assert ahead.retired == before + 30
            assert everything(twin) == everything(ahead)
    return inside


def test_a_copy_inside_smm_goes_the_same_way(boot, no_refusal):
    machine = booting()
    machine.run(boot.requested[0])
    assert machine.cpu.state.smbase == 0x30000
    assert inside_smm(machine) > 50
    assert machine.cpu.state.smbase == 0xA0000


def test_an_smi_from_outside_runs_the_relocated_handler(boot, no_refusal):
    machine = copy_of(boot.machine)
    machine.inject_smi()
    assert inside_smm(machine) > 20
    assert machine.cpu.state.smbase == 0xA0000
    assert machine.run(1000).reason == StopReason.BUDGET
