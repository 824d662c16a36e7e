"""The bundled guests: sources, parameters, and what they do when they run."""

import re

import pytest

from emulator.guests import GUESTS
from emulator.guests import __file__ as guests_file
from emulator.guests.build import BINARIES, HERE, assemble, missing_tools
from emulator.machine import Machine, StopReason

FOREVER = 1 << 40


@pytest.mark.skipif(bool(missing_tools()), reason=f"GNU binutils are not installed: {', '.join(missing_tools())}")
@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: binary.name)
def test_the_committed_binary_is_what_the_source_gives(binary):
    assert (HERE / binary.name).read_bytes() == assemble(binary)


def test_every_file_of_the_folder_is_used():
    assert guests_file.endswith("__init__.py")
    sources = {binary.source for binary in BINARIES} | {"ticker.inc", "smm_corners.inc"}
    assert {path.name for path in HERE.glob("*.S")} | {path.name for path in HERE.glob("*.inc")} == sources
    assert {path.name for path in HERE.glob("*.bin")} == {binary.name for binary in BINARIES}
    loaded = {file for guest in GUESTS.values() for _, _, file in guest.images}
    assert loaded == {binary.name for binary in BINARIES}


@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_fits_a_machine_with_its_defaults(name):
    guest = GUESTS[name]
    assert guest.name == name
    assert guest.description
    config = guest.config()
    assert config.ram_bytes == guest.ram_bytes + guest.smram_bytes
    Machine(config)


@pytest.mark.parametrize(
    ("params", "ram_bytes", "text"),
    [
        ({"tick": 1}, None, "no parameter 'tick'"),
        ({"ticks": 0}, None, "ticks 0: between 1 and"),
        ({"pit_count": 1 << 20}, None, "pit_count"),
        ({"working_set_pages": 4000}, None, "at most 3840"),
        ({}, 1 << 20, "ram_bytes"),
        ({}, (16 << 20) + 1, "ram_bytes"),
    ],
)
def test_bad_parameters_are_refused_with_a_reason(params, ram_bytes, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        GUESTS["ticker32"].config(params, ram_bytes)


def test_all_bad_parameters_are_listed():
    with pytest.raises(ValueError, match=r"nonsense.*ticks.*ram_bytes"):
        GUESTS["ticker64"].config({"nonsense": 1, "ticks": 0}, 4096)


@pytest.mark.parametrize("name", ["ticker32", "ticker64"])
def test_the_ticker_counts_its_ticks_and_finds_its_memory_intact(name):
    machine = Machine(GUESTS[name].config({"ticks": 40}))
    result = machine.run(FOREVER)
    assert (result.reason, machine.exit_code) == (StopReason.DEBUG_EXIT, 0)
    lines = machine.console_bytes().decode().splitlines()
    assert [line[:23] for line in lines[:-1]] == [f"line {n:06} tick {n * 10:06}" for n in range(1, 5)]
    last = re.fullmatch(
        r"final tick 000040 sum ([0-9a-f]{8}) smi 0000(\d\d) smm [0-9a-f]{8} lost 000000 check ([0-9a-f]{8})", lines[-1]
    )
    assert last
    assert last[1] == last[3]
    assert int(last[2]) == 40 + 40 // 8  # one a tick, and every eighth raises a second one
    # 10 ms of 1 us steps a tick, and the set-up
    assert 400_000 < result.steps < 420_000
    assert len({line[29:37] for line in lines}) == len(lines)


@pytest.mark.parametrize("name", ["ticker32", "ticker64"])
def test_every_kind_of_shadow_was_seen_and_no_unknown_interrupt(name):
    machine = Machine(GUESTS[name].config({"ticks": 9, "pit_count": 3000}))
    seen = set()
    state = machine.cpu.state
    while machine.run(1).reason == StopReason.BUDGET:
        seen.add((state.smm, state.smm_shadow, state.shadow))
    assert {(True, 0, 0), (True, 1, 0), (True, 2, 0), (False, 0, 1), (False, 0, 2)} <= seen
    assert machine.memory.read(0, 0x674, 4) == 0  # interrupts nobody asked for
    assert machine.memory.read(0, 0x65C, 4) == 1  # NMIs
    assert machine.memory.read(0, 0x658, 4) == 9  # self-interrupts: one for each placed SMI


def test_the_ticker_dirties_its_whole_working_set_and_smram():
    machine = Machine(GUESTS["ticker64"].config({"ticks": 3, "working_set_pages": 100}))
    machine.memory.clear_dirty()
    machine.run(FOREVER)
    assert all(machine.memory.dirty[0x100 : 0x100 + 100])
    assert not any(machine.memory.dirty[0x100 + 100 : 0x1000])
    smram = machine.memory.page_offset(1, 0x3C000) // 4096
    assert machine.memory.dirty[smram]
    assert machine.memory.read_bytes(0, 0x3C000, 64) != machine.memory.read_bytes(1, 0x3C000, 64)


def test_without_smis_the_ticker_takes_none():
    machine = Machine(GUESTS["ticker32"].config({"ticks": 10, "smi_ticks": 0, "pit_count": 2000}))
    assert machine.run(FOREVER).reason == StopReason.DEBUG_EXIT
    assert b" smi 000000 " in machine.console_bytes()


def test_injected_events_do_the_ticker_no_harm():
    machine = Machine(GUESTS["ticker64"].config({"ticks": 20, "pit_count": 3000}))
    machine.run(20_000)  # its local APIC is enabled by then
    while machine.run(1501).reason == StopReason.BUDGET:
        machine.inject_smi()
        machine.inject_nmi()
        machine.inject_interrupt(0x77)
    assert machine.exit_code == 0
    assert machine.memory.read(0, 0x674, 4) > 10


# One byte an event; see smm_corners.inc. 1x: an SMI that found shadow x; 20 NMI, 28 its end; 40 self-interrupt;
# 50 INT n; 60 #UD; with 80 added: taken inside SMM.
EVENTS_REAL = (
    "10 10 40 12 40 11 40 11 40 12 40"  # no shadow twice, STI, MOV SS, POP SS, STI; HLT
    " 12 12 40 11 20 40 12 40"  # a second SMI latched, NMI and interrupt in a MOV SS shadow, the byte cleared
    " 10 20 10 28 20"  # an NMI sent in SMM; its handler raises an SMI that sends another one, which waits for IRET
    " 11 50 10 60 10 40"  # MOV SS; INT n, an undelivered #UD, amid REP MOVSB
    " 12 e0 a0 c0"  # #UD, an NMI and an interrupt inside SMM
    " 12 40 12 40 "  # SMBASE moves, and the next SMI goes there
)
EVENTS_PROTECTED = "10 12 40 11 20 40 11 11 40 12 40 10 60 "
EVENTS_LONG = "10 12 40 11 20 40 12 12 40 10 60 11 50 10 40 12 e0 a0 c0"


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("smm_corners", EVENTS_REAL + EVENTS_PROTECTED + EVENTS_LONG),
        ("smm_corners32", EVENTS_REAL + EVENTS_PROTECTED),
    ],
)
def test_the_corner_cases_happen_in_the_order_the_manuals_say(name, events):
    machine = Machine(GUESTS[name].config())
    result = machine.run(FOREVER)
    assert (result.reason, machine.exit_code) == (StopReason.DEBUG_EXIT, 0)
    expected = bytes.fromhex(events)
    assert machine.memory.read_bytes(0, 0x700, len(expected) + 1).hex(" ") == (expected + b"\0").hex(" ")
    assert machine.console_bytes() == b"smm corners: log bytes, lost interrupts: %02x00\n" % len(expected)
    assert 1000 < result.steps < 3000
