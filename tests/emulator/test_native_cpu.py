"""Random user-mode 64-bit integer instructions, executed by the CPU that runs the tests and by the emulator."""

import ctypes
import mmap
import os
import platform
import random

import pytest

from emulator.config import AS_NORMAL, AS_SMM, SlotConfig
from emulator.cpu import Cpu
from emulator.cpu_model import MODELS
from emulator.memory import GuestMemory
from emulator.registers import CS

SAMPLE = 3_000
CAMPAIGN = 300_000
DATA_LINEAR = 0x2000_0000  # the same address natively and in the guest, so that both can use one register file
CODE_LINEAR = 0x2020_0000
TABLES_GPA = 0x10_0000
BYTES = 4096
CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
STATUS = CF | PF | AF | ZF | SF | OF
POPULATION = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
POPULATION += [0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF]
REGISTERS = [0, 1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14]  # rsp and r15 are the harness's, rsi and rdi point into DATA
RSI, RDI, RCX, RAX, RDX = 6, 7, 1, 0, 2

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.system() != "Linux", reason="the oracle is a native x86-64 Linux process"
)


class Native:
    """Runs one instruction on this CPU with chosen GPRs (not RSP, R15) and flags."""

    def __init__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
        for address in (DATA_LINEAR, CODE_LINEAR):
            if libc.mmap(address, BYTES, 7, flags, -1, 0) != address:
                pytest.skip(f"the address {address:#x} cannot be mapped executable in this process")
        self.data = (ctypes.c_ubyte * BYTES).from_address(DATA_LINEAR)
        self.code = (ctypes.c_ubyte * BYTES).from_address(CODE_LINEAR)
        self.registers = (ctypes.c_uint64 * 16)()
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(CODE_LINEAR)

    @staticmethod
    def _moves(opcode):
        used = [n for n in range(15) if n != 4]
        return b"".join(bytes([0x49 | (n >= 8) << 2, opcode, 0x47 | (n & 7) << 3, 8 * n]) for n in used)

    def run(self, code, registers, flags):
        enter = bytes.fromhex("53 55 41 54 41 55 41 56 41 57 49 89 ff 41 ff 77 78 9d")
        leave = bytes.fromhex("9c 41 8f 47 78 fc 41 5f 41 5e 41 5d 41 5c 5d 5b c3")
        whole = enter + self._moves(0x8B) + code + self._moves(0x89) + leave
        self.code[: len(whole)] = whole
        self.registers[:15] = registers
        self.registers[15] = flags | 0x202
        self.call(ctypes.addressof(self.registers))
        return list(self.registers[:15]), self.registers[15]


class Guest:
    """The emulator in 64-bit mode over one page of data and one of code, identity-mapped."""

    def __init__(self):
        self.ram = bytearray(0x400000)
        slots = [
            SlotConfig(as_id, slot, gpa, size, 0, offset)
            for as_id in (AS_NORMAL, AS_SMM)
            for slot, (gpa, size, offset) in enumerate(((0, 0x200000, 0), (DATA_LINEAR, 0x200000, 0x200000)))
        ]
        slots += [SlotConfig(AS_NORMAL, 2, CODE_LINEAR, 0x1000, 0, 0)]
        self.memory = GuestMemory(slots, self.ram)
        pml4, pdpt, directory = TABLES_GPA, TABLES_GPA + 0x1000, TABLES_GPA + 0x2000
        self.memory.write(0, pml4, 8, pdpt | 7)
        self.memory.write(0, pdpt, 8, directory | 7)
        for address in (DATA_LINEAR, CODE_LINEAR):
            self.memory.write(0, directory + (address >> 21) * 8, 8, address | 0x87)
        self.cpu = Cpu(self.memory, None, MODELS["x86-64"])
        state = self.cpu.state
        state.cr3, state.cr4, state.efer, state.cr0 = pml4, 0x20, 0x500, 0x80000011
        code = state.segs[CS]
        code.selector, code.base, code.limit, code.type, code.l, code.g = 8, 0, 0xFFFFFFFF, 11, 1, 1
        for index in (0, 2, 3, 4, 5):
            state.segs[index].base, state.segs[index].limit, state.segs[index].g = 0, 0xFFFFFFFF, 1
        for segment in state.segs:
            segment.refresh()
        self.cpu.state_changed()

    def run(self, code, registers, flags, data):
        self.memory.write_bytes(0, CODE_LINEAR, code)
        self.memory.write_bytes(0, DATA_LINEAR, data)
        state = self.cpu.state
        state.gpr[:15] = registers
        state.rflags = flags | 0x202
        state.rip = CODE_LINEAR
        self.cpu.state_changed()
        for _ in range(64):
            self.cpu.run(1)
            if state.rip != CODE_LINEAR:
                break
        if state.rip != CODE_LINEAR + len(code):
            raise AssertionError(f"RIP is {state.rip:#x}; pending vector {state.exception_nr}")
        return list(state.gpr[:15]), state.rflags


def prefix(rng, *, byte_op=False, reg=0, rm=0):
    """Operand-size prefix and REX for a random operand size; returns the bytes and the size."""
    size = 1 if byte_op else rng.choice((2, 4, 8))
    rex = 0x40 | (size == 8) << 3 | (reg >= 8) << 2 | (rm >= 8)
    return (b"\x66" if size == 2 else b"") + bytes([rex]), size


def modrm(rng, opcode, *, byte_op=False, field=None, memory=True, imm=None):
    """Encode opcode + ModRM: register field (or /digit), and a register or [rsi+disp8] operand."""
    reg = rng.choice(REGISTERS) if field is None else field
    in_memory = memory and rng.random() < 0.3
    rm = 6 if in_memory else rng.choice(REGISTERS)
    start, size = prefix(rng, byte_op=byte_op, reg=0 if field is not None else reg, rm=rm)
    mod = [0x40 | (reg & 7) << 3 | 6, rng.randrange(0, 64)] if in_memory else [0xC0 | (reg & 7) << 3 | rm & 7]
    width = {None: 0, "b": 1, "z": min(size, 4)}[imm]
    return start + bytes(opcode) + bytes(mod) + rng.randbytes(width)


def alu(rng):
    if rng.random() < 0.5:
        return modrm(rng, [rng.randrange(8) * 8 + (b := rng.randrange(4))], byte_op=not b & 1), STATUS
    if rng.random() < 0.5:
        return modrm(rng, [0x83], field=rng.randrange(8), imm="b"), STATUS
    byte_op = rng.random() < 0.4
    opcode, imm = (0x80, "b") if byte_op else (0x81, "z")
    return modrm(rng, [opcode], byte_op=byte_op, field=rng.randrange(8), imm=imm), STATUS


def logic_af(code):
    """AF is undefined after AND, OR, XOR and TEST. Source: SDM vol. 2."""
    opcode = next(byte for byte in code if byte != 0x66 and byte & 0xF0 != 0x40)
    digit = opcode >> 3 if opcode < 0x40 else code[code.index(opcode) + 1] >> 3 & 7
    return STATUS & ~AF if digit in (1, 4, 6) else STATUS


def alu_case(rng):
    code, _ = alu(rng)
    return code, logic_af(code)


def shift(rng):
    digit, byte_op = rng.choice((0, 1, 2, 3, 4, 5, 7)), rng.random() < 0.4
    opcode = rng.choice((0xC0, 0xD0, 0xD2)) + (not byte_op)
    code = modrm(rng, [opcode], byte_op=byte_op, field=digit, imm="b" if opcode < 0xC2 else None)
    # Rotates leave SZAP alone; AF of shifts is undefined, OF is for counts other than 1, CF for counts past the width.
    keep = STATUS & ~OF if digit < 4 else STATUS & ~(AF | OF)
    if opcode >= 0xD0 and opcode < 0xD2:
        keep |= OF
    return code, keep & ~(CF if byte_op or code[0] == 0x66 else 0)


def multiply(rng):
    digit = rng.choice((4, 5))
    byte_op = rng.random() < 0.3
    return modrm(rng, [0xF6 if byte_op else 0xF7], byte_op=byte_op, field=digit), CF | OF


def one(*rows):
    """Cases of one fixed encoding each: (opcode bytes, keyword arguments, flags that are defined after it)."""

    def case(rng):
        opcode, options, keep = rng.choice(rows)
        return modrm(rng, opcode, **options), keep

    return case


def condition(rng):
    code = rng.randrange(16)
    if rng.random() < 0.5:
        return modrm(rng, [0x0F, 0x40 + code]), STATUS
    return modrm(rng, [0x0F, 0x90 + code], byte_op=True, field=0), STATUS


def plain(rng):
    rows = ("f8", "f9", "f5", "98", "6698", "4898", "99", "6699", "4899", "9e", "9f", "90", "0fc8", "480fcb", "490fca")
    return bytes.fromhex(rng.choice(rows)), STATUS


def string(rng):
    opcode = rng.choice((0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF))
    repeat = rng.choice((b"", b"\xf3", b"\xf2" if opcode in (0xA6, 0xA7, 0xAE, 0xAF) else b"\xf3"))
    size = rng.choice((b"", b"\x66", b"\x48")) if opcode & 1 else b""
    return (b"\x66" if size == b"\x66" else b"") + repeat + (size if size == b"\x48" else b"") + bytes([opcode]), STATUS


CASES = {
    "ALU": alu_case,
    "shifts and rotates": shift,
    "MUL, IMUL": multiply,
    "MOVcc, SETcc": condition,
    "no operands": plain,
    "strings": string,
    "two operands": one(
        ([0x88], {"byte_op": True}, STATUS),
        ([0x89], {}, STATUS),
        ([0x8A], {"byte_op": True}, STATUS),
        ([0x8B], {}, STATUS),
        ([0xC7], {"field": 0, "imm": "z"}, STATUS),
        ([0x85], {}, STATUS & ~AF),
        ([0x87], {}, STATUS),
        ([0x63], {}, STATUS),
        ([0x0F, 0xB6], {"byte_op": True}, STATUS),
        ([0x0F, 0xB7], {}, STATUS),
        ([0x0F, 0xBE], {"byte_op": True}, STATUS),
        ([0x0F, 0xBF], {}, STATUS),
        ([0x0F, 0xAF], {}, CF | OF),
        ([0x69], {"imm": "z"}, CF | OF),
        ([0x6B], {"imm": "b"}, CF | OF),
        ([0x0F, 0xC0], {"byte_op": True}, STATUS),
        ([0x0F, 0xC1], {}, STATUS),
        ([0x0F, 0xB0], {"byte_op": True}, STATUS),
        ([0x0F, 0xB1], {}, STATUS),
        ([0x0F, 0xA3], {"memory": False}, CF),
        ([0x0F, 0xAB], {"memory": False}, CF),
        ([0x0F, 0xB3], {"memory": False}, CF),
        ([0x0F, 0xBB], {"memory": False}, CF),
        ([0x0F, 0xBA], {"field": 4, "imm": "b"}, CF),
        ([0x0F, 0xBA], {"field": 5, "imm": "b"}, CF),
        ([0x0F, 0xBA], {"field": 6, "imm": "b"}, CF),
        ([0x0F, 0xBA], {"field": 7, "imm": "b"}, CF),
        ([0x0F, 0xA4], {"imm": "b"}, 0),
        ([0x0F, 0xAC], {"imm": "b"}, 0),
        ([0xFE], {"byte_op": True, "field": 0}, STATUS),
        ([0xFF], {"field": 1}, STATUS),
        ([0xF7], {"field": 2}, STATUS),
        ([0xF7], {"field": 3}, STATUS),
        ([0xF6], {"byte_op": True, "field": 3}, STATUS),
    ),
}


@pytest.fixture(scope="module")
def native():
    return Native()


def registers_for(rng, code):
    registers = [rng.choice(POPULATION) if rng.random() < 0.4 else rng.getrandbits(64) for _ in range(15)]
    registers[4] = 0
    registers[RSI] = DATA_LINEAR + 512 + rng.randrange(0, 256)
    registers[RDI] = DATA_LINEAR + 2048 + rng.randrange(0, 256)
    if code[-1] & 0xFE in (0xA4, 0xA6, 0xAA, 0xAC, 0xAE):
        registers[RCX] = rng.randrange(0, 12)
    return registers


def compare(native, seed, count):
    rng = random.Random(seed)
    guest = Guest()
    for number in range(count):
        name = rng.choice(list(CASES))
        code, keep = CASES[name](rng)
        double_shift = b"\x0f\xa4" in code or b"\x0f\xac" in code
        if double_shift and code[0] == 0x66 and code[-1] & 31 > 15:
            continue  # a count past the operand's width leaves the destination undefined
        registers = registers_for(rng, code)
        flags = rng.getrandbits(12) & STATUS
        data = rng.randbytes(BYTES)
        native.data[:] = data
        wanted, wanted_flags = native.run(code, registers, flags)
        found, found_flags = guest.run(code, registers, flags, data)
        where = f"case {number} of seed {seed}: {name}, {code.hex(' ')}"
        assert [hex(v) for v in found] == [hex(v) if i != 4 else "0x0" for i, v in enumerate(wanted)], where
        assert hex(found_flags & keep) == hex(wanted_flags & keep), where
        assert guest.memory.read_bytes(0, DATA_LINEAR, BYTES) == bytes(native.data), where


def test_this_cpu_and_the_emulator_agree_on_a_sample(native):
    compare(native, seed=20221, count=SAMPLE)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_this_cpu_and_the_emulator_agree_on_a_campaign(native):
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    compare(native, seed=seed, count=CAMPAIGN)
