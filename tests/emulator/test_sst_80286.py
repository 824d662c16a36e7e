"""Single-instruction tests that were captured from a real 80286, as a gate of the real-mode core."""

import json
import lzma
from collections import Counter
from pathlib import Path

import pytest

from emulator.config import ram_slots
from emulator.cpu import Cpu
from emulator.cpu_model import MODELS
from emulator.memory import GuestMemory
from emulator.registers import MP_HALTED, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP

DATA = Path(__file__).parents[1] / "data" / "sst-80286"
RAM_BYTES = 16 << 20
REGISTERS = {"ax": RAX, "bx": RBX, "cx": RCX, "dx": RDX, "sp": RSP, "bp": RBP, "si": RSI, "di": RDI}
SEGMENTS = ("es", "cs", "ss", "ds")  # hardware order
FLAGS_MASK = 0x0FD5  # bits 12-15 differ between a 286 and later processors in real mode; the rest are fixed
OVERFLOW = 0x800
MAX_STEPS = 70_000  # a REP over 64 KiB is the longest
ALU_FORMS = {f"{op:02X}" for base in range(0, 0x40, 8) for op in range(base, base + 6)}

STRING_FORMS = {"6C", "6D", "6E", "6F", "A4", "A5", "A6", "A7", "AA", "AB", "AC", "AD", "AE", "AF"}
ESCAPE_FORMS = {f"{op:X}" for op in range(0xD8, 0xE0)}
MAX_BYTES_286 = 10


def instruction_bytes(test):
    """Up to the HLT that follows it, by the RAM list: the instruction's bytes come first and in order."""
    regs = test["init"]["regs"]
    memory = dict(map(tuple, test["init"]["ram"]))
    at = (regs["cs"] << 4) + regs["ip"]
    length = 0
    while length < 15 and memory.get(at + length) is not None and memory[at + length] != 0xF4:
        length += 1
    return length


def takes(test, vector):
    return (test.get("exception") or {}).get("vector") == vector


EXCLUDED = {
    "a LOCK prefix is #UD today on what it cannot lock; a 286 executes it": lambda test: "lock" in test["name"],
    "a 286 has moved SI and DI when a string access overruns its segment": (
        lambda test: takes(test, 13) and test["form"] in STRING_FORMS
    ),
    "an instruction may have 15 bytes today; a 286 takes #GP above 10": (
        lambda test: takes(test, 13) and instruction_bytes(test) > MAX_BYTES_286
    ),
    "FS and GS are segment registers today; a 286 takes #UD": (
        lambda test: test["form"] in ("8C", "8E") and test["name"].endswith(("fs", "gs")) and takes(test, 6)
    ),
    "a coprocessor escape is #UD where the model has none; a 286 without one skips it": (
        lambda test: test["form"] in ESCAPE_FORMS
    ),
}
"""Why a test does not apply to later processors -> which tests it is."""
STACK_OVERRUN = 12
"""An overrun of the stack segment is #SS today; a 286 in real mode takes #GP."""

UNDEFINED_OVERFLOW = {"C0.2", "C0.3", "C1.2", "C1.3", "D2.2", "D2.3", "D3.2", "D3.3"}
"""RCL and RCR by more than one: OF is undefined, and the recorded mask does not say so."""


class OpenBus:
    """No devices: IN reads all ones."""

    def port_read(self, port, size):
        return (1 << 8 * size) - 1

    def port_write(self, port, size, value):
        pass

    def acknowledge(self):
        raise RuntimeError("no interrupt was raised")

    def read_tpr(self):
        return 0

    def write_tpr(self, value):
        pass

    def apic_base_changed(self, value):
        pass


@pytest.fixture(scope="module")
def ram():
    return bytearray(RAM_BYTES)


def load():
    with lzma.open(DATA / "sample.jsonl.xz", "rt") as lines:
        return [json.loads(line) for line in lines]


TESTS = load()
DEFINED_FLAGS = {form: int(mask, 16) for form, mask in json.loads((DATA / "defined_flags.json").read_text()).items()}
FORMS = sorted({test["form"] for test in TESTS})


def run(test, ram, model="x86-64"):
    memory = GuestMemory(ram_slots(RAM_BYTES), ram)
    cpu = Cpu(memory, OpenBus(), MODELS[model])
    regs = test["init"]["regs"]
    for name, index in REGISTERS.items():
        cpu.state.gpr[index] = regs[name]
    for index, name in enumerate(SEGMENTS):
        segment = cpu.state.segs[index]
        segment.selector, segment.base = regs[name], regs[name] << 4
    cpu.state.rip = regs["ip"]
    cpu.state.rflags = regs["flags"] & 0x0FFF | 2
    for address, byte in test["init"]["ram"]:
        ram[address] = byte
    cpu.state_changed()
    for _ in range(MAX_STEPS):
        cpu.run(1)
        state = cpu.state
        if model != "286" and state.exception_pending and state.exception_nr == STACK_OVERRUN and takes(test, 13):
            return None
        if state.mp_state == MP_HALTED or state.triple_fault:
            break
    return cpu.state


def differences(test, state, ram, flags_mask=FLAGS_MASK):
    expected = {**test["init"]["regs"], **test["final"].get("regs", {})}
    mask = flags_mask & DEFINED_FLAGS.get(test["form"], 0xFFFF)
    if test["form"] in UNDEFINED_OVERFLOW:
        mask &= ~OVERFLOW
    found = {}
    actual = {name: state.gpr[index] & 0xFFFF for name, index in REGISTERS.items()}
    actual |= {name: state.segs[index].selector for index, name in enumerate(SEGMENTS)}
    actual["ip"] = state.rip & 0xFFFF
    for name, value in actual.items():
        if value != expected[name]:
            found[name] = (hex(value), hex(expected[name]))
    if (state.rflags ^ expected["flags"]) & mask:
        found["flags"] = (hex(state.rflags & mask), hex(expected["flags"] & mask))
    flags_address = (test.get("exception") or {}).get("flags_addr")
    for address, byte in test["final"].get("ram", []):
        bits = 0xFF
        if flags_address is not None and address in (flags_address, flags_address + 1):
            bits = mask >> 8 * (address - flags_address) & 0xFF
        if (ram[address] ^ byte) & bits:
            found[hex(address)] = (hex(ram[address]), hex(byte))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_real_80286_agrees(form, ram):
    wrong = {}
    for test in (test for test in TESTS if test["form"] == form):
        if any(applies(test) for applies in EXCLUDED.values()):
            continue
        state = run(test, ram)
        if state is not None and (found := differences(test, state, ram)):
            wrong[test["name"], test["idx"]] = found
        for address, _ in test["init"]["ram"] + test["final"].get("ram", []):
            ram[address] = 0
    assert not wrong


@pytest.mark.parametrize("form", FORMS)
def test_model_286_agrees_without_exclusions_and_in_every_flag(form, ram):
    wrong = {}
    for test in (test for test in TESTS if test["form"] == form):
        if found := differences(test, run(test, ram, "286"), ram, FLAGS_MASK | 0xF000):
            wrong[test["name"], test["idx"]] = found
        for address, _ in test["init"]["ram"] + test["final"].get("ram", []):
            ram[address] = 0
    assert not wrong


def test_few_tests_are_excluded_and_every_exclusion_is_needed():
    counts = {why: sum(map(applies, TESTS)) for why, applies in EXCLUDED.items()}
    assert all(counts.values())
    assert sum(counts.values()) < len(TESTS) // 25


def test_every_form_is_in_the_sample():
    assert len(FORMS) == 325
    assert min(Counter(test["form"] for test in TESTS).values()) >= 3
