"""Control and debug registers.

Source: SDM vol. 2, pages of MOV CR and MOV DR, XGETBV, XSETBV; vol. 3A 2.5, vol. 3B 18.2.
"""

from collections.abc import Callable

from ..control_registers import write_cr0, write_cr3, write_cr4
from ..cpu import Cpu
from ..decode import Decoded
from ..exceptions import DB, GuestFault, general_protection, undefined_opcode
from ..instruction import Action, op
from ..operands import load, register_load, register_store, store
from ..registers import (
    CR4_DE,
    CR4_OSXSAVE,
    DR6_BD,
    DR6_RESET,
    DR6_VOLATILE,
    DR7_GD,
    DR7_RESET,
    DR7_VOLATILE,
    MASK32,
    RAX,
    RCX,
    RDX,
)
from .system import privileged


def _write_cr2(cpu: Cpu, value: int) -> None:
    cpu.state.cr2 = value


def _write_cr8(cpu: Cpu, value: int) -> None:
    if value >> 4:
        raise general_protection()
    cpu.bus.write_tpr(value)


_READERS: dict[int, Callable[[Cpu], int]] = {
    0: lambda cpu: cpu.state.cr0,
    2: lambda cpu: cpu.state.cr2,
    3: lambda cpu: cpu.state.cr3,
    4: lambda cpu: cpu.state.cr4,
    8: lambda cpu: cpu.bus.read_tpr(),
}
_WRITERS: dict[int, Callable[[Cpu, int], None]] = {
    0: write_cr0, 2: _write_cr2, 3: write_cr3, 4: write_cr4, 8: _write_cr8,
}  # fmt: skip


def _undefined() -> None:
    raise undefined_opcode()


def _exists(cpu: Cpu, number: int) -> bool:
    """Whether the model has a control register: CR4 came with CPUID."""
    return number != 4 or "CPUID" in cpu.model.features


@op("MOV", syntax="MOV r32/64, CRn", form="r,c")
def mov_from_control(cpu: Cpu, insn: Decoded) -> Action:
    """Read CR0, CR2, CR3, CR4 or CR8."""
    read = _READERS.get(insn.operands[1].value)
    if read is None or not _exists(cpu, insn.operands[1].value):
        return _undefined
    put, mask = store(cpu, insn, 0), (1 << 8 * insn.operands[0].size) - 1
    return privileged(cpu, lambda: put(read(cpu) & mask))


@op("MOV", syntax="MOV CRn, r32/64", form="c,r", flags_undefined="OSZAPC")
def mov_to_control(cpu: Cpu, insn: Decoded) -> Action:
    """Write CR0, CR2, CR3, CR4 or CR8; status flags stay."""
    write = _WRITERS.get(insn.operands[0].value)
    if write is None or not _exists(cpu, insn.operands[0].value):
        return _undefined
    value = load(cpu, insn, 1, insn.operands[1].size)
    return privileged(cpu, lambda: write(cpu, value()))


def _debug_number(cpu: Cpu, number: int) -> int:
    """DR4 and DR5 are DR6 and DR7 unless CR4.DE; general detect faults first."""
    if number in (4, 5):
        if cpu.state.cr4 & CR4_DE:
            raise undefined_opcode()
        number += 2
    if cpu.state.dr7 & DR7_GD:
        raise GuestFault(DB, None, DR6_BD)
    return number


@op("MOV", syntax="MOV r32/64, DRn", form="r,d", flags_undefined="OSZAPC")
def mov_from_debug(cpu: Cpu, insn: Decoded) -> Action:
    """Read a debug register."""
    number, state, put = insn.operands[1].value, cpu.state, store(cpu, insn, 0)
    if number > 7:
        return _undefined
    mask = (1 << 8 * insn.operands[0].size) - 1

    def read() -> None:
        which = _debug_number(cpu, number)
        put((state.dr[which] if which < 4 else state.dr6 if which == 6 else state.dr7) & mask)

    return privileged(cpu, read)


@op("MOV", syntax="MOV DRn, r32/64", form="d,r", flags_undefined="OSZAPC")
def mov_to_debug(cpu: Cpu, insn: Decoded) -> Action:
    """Write a debug register; bits above 31 of DR6 and DR7 are #GP(0)."""
    number, state, value = insn.operands[0].value, cpu.state, load(cpu, insn, 1, insn.operands[1].size)
    if number > 7:
        return _undefined

    def write() -> None:
        which, new = _debug_number(cpu, number), value()
        if which >= 6 and new >> 32:
            raise general_protection()
        if which < 4:
            state.dr[which] = new
        elif which == 6:
            state.dr6 = new & DR6_VOLATILE | DR6_RESET
        else:
            state.dr7 = new & DR7_VOLATILE | DR7_RESET
        cpu.breakpoints.refresh()
        cpu.attention = True

    return privileged(cpu, write)


@op("XGETBV", syntax="XGETBV")
def xgetbv(cpu: Cpu, _insn: Decoded) -> Action:
    """EDX:EAX = XCR0."""
    state = cpu.state
    index, low, high = register_load(cpu, RCX, 4), register_store(cpu, RAX, 4), register_store(cpu, RDX, 4)

    def run() -> None:
        if not state.cr4 & CR4_OSXSAVE:
            raise undefined_opcode()
        if index():
            raise general_protection()
        low(state.xcr0 & MASK32)
        high(state.xcr0 >> 32)

    return run


@op("XSETBV", syntax="XSETBV")
def xsetbv(cpu: Cpu, _insn: Decoded) -> Action:
    """XCR0 = EDX:EAX; no model offers more than the x87 bit, which must be set."""
    state = cpu.state
    index, low, high = register_load(cpu, RCX, 4), register_load(cpu, RAX, 4), register_load(cpu, RDX, 4)

    def run() -> None:
        if not state.cr4 & CR4_OSXSAVE:
            raise undefined_opcode()
        if index() or (high() << 32 | low()) != 1:
            raise general_protection()

    return privileged(cpu, run)
