"""Binary arithmetic.

Source: SDM vol. 2, pages of ADD, ADC, SUB, SBB, CMP, INC, DEC, NEG.
"""

from collections.abc import Callable

from ..cpu import Cpu
from ..decode import Decoded
from ..flags import (
    Binary,
    Unary,
    add_with_carry,
    adder,
    decrementer,
    incrementer,
    subtract_with_borrow,
    subtracter,
)
from ..instruction import Action, op
from ..operands import load, modify, width
from ..state import CpuState


def binary(cpu: Cpu, insn: Decoded, make: Callable[[CpuState, int], Binary]) -> Action:
    """Destination = compute(destination, source). Flags are written once nothing can fault any more."""
    size = width(insn)
    compute, source = make(cpu.state, 8 * size), load(cpu, insn, 1, size)
    if insn.operands[0].kind == "r" and size >= 4:
        return _on_register(cpu, insn, compute, (1 << 8 * size) - 1)
    get, put = modify(cpu, insn, 0)
    return lambda: put(compute(get(), source()))


def _on_register(cpu: Cpu, insn: Decoded, compute: Binary, mask: int) -> Action:
    """The same for a 4- or 8-byte register, without a detour for register and immediate sources."""
    gpr, number, other = cpu.state.gpr, insn.operands[0].value, insn.operands[1]
    if other.kind == "r":
        second = other.value

        def with_register() -> None:
            gpr[number] = compute(gpr[number] & mask, gpr[second] & mask)

        return with_register
    if other.kind == "i":
        value = other.value & mask

        def with_immediate() -> None:
            gpr[number] = compute(gpr[number] & mask, value)

        return with_immediate
    source = load(cpu, insn, 1)

    def with_memory() -> None:
        gpr[number] = compute(gpr[number] & mask, source())

    return with_memory


def unary(cpu: Cpu, insn: Decoded, make: Callable[[CpuState, int], Unary]) -> Action:
    """Destination = compute(destination)."""
    compute = make(cpu.state, 8 * width(insn))
    get, put = modify(cpu, insn, 0)
    return lambda: put(compute(get()))


@op("ADD", syntax="ADD r/m, r/m/imm", form="rm,rmi", flags_written="OSZAPC")
def add(cpu: Cpu, insn: Decoded) -> Action:
    """Destination + source."""
    return binary(cpu, insn, adder)


@op("ADC", syntax="ADC r/m, r/m/imm", form="rm,rmi", flags_written="OSZAPC")
def adc(cpu: Cpu, insn: Decoded) -> Action:
    """Destination + source + CF."""
    return binary(cpu, insn, add_with_carry)


@op("SUB", syntax="SUB r/m, r/m/imm", form="rm,rmi", flags_written="OSZAPC")
def sub(cpu: Cpu, insn: Decoded) -> Action:
    """Destination - source."""
    return binary(cpu, insn, subtracter)


@op("SBB", syntax="SBB r/m, r/m/imm", form="rm,rmi", flags_written="OSZAPC")
def sbb(cpu: Cpu, insn: Decoded) -> Action:
    """Destination - source - CF."""
    return binary(cpu, insn, subtract_with_borrow)


@op("CMP", syntax="CMP r/m, r/m/imm", form="rm,rmi", flags_written="OSZAPC")
def cmp(cpu: Cpu, insn: Decoded) -> Action:
    """SUB without the result."""
    size = width(insn)
    compute = subtracter(cpu.state, 8 * size)
    left, right = load(cpu, insn, 0), load(cpu, insn, 1, size)

    def compare() -> None:
        compute(left(), right())

    return compare


@op("INC", syntax="INC r/m", form="rm", flags_written="OSZAP")
def inc(cpu: Cpu, insn: Decoded) -> Action:
    """Destination + 1; CF stays."""
    return unary(cpu, insn, incrementer)


@op("DEC", syntax="DEC r/m", form="rm", flags_written="OSZAP")
def dec(cpu: Cpu, insn: Decoded) -> Action:
    """Destination - 1; CF stays."""
    return unary(cpu, insn, decrementer)


def _negater(state: CpuState, bits: int) -> Unary:
    subtract = subtracter(state, bits)
    return lambda value: subtract(0, value)


@op("NEG", syntax="NEG r/m", form="rm", flags_written="OSZAPC")
def neg(cpu: Cpu, insn: Decoded) -> Action:
    """0 - destination; CF says whether it was not zero."""
    return unary(cpu, insn, _negater)
